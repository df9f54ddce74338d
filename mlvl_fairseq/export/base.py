"""What an export is: which networks fit it, how it is written, and how the program it is for reads it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Callable, ClassVar, Dict, List, Mapping, Optional, Sequence, Tuple, Type

import numpy as np

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.export.samples import Samples
from mlvl_fairseq.registry import import_modules, registering

if TYPE_CHECKING:
    from PIL import Image

    from mlvl_fairseq.inference import Encoder

TOLERANCE = 1e-5


def as_it_is(text: str) -> str:
    return text


@dataclass(frozen=True)
class Stock:
    """An export as its program has loaded it, without any part of this plugin.

    Attributes:
        texts: captions to [captions, embed_dim]; None: it encodes none.
        pixels: float32 [B, 3, H, W], or given features [B, D], to [B, embed_dim]; None: it encodes none.
        pictures: pictures to [B, embed_dim], cut by the program itself in each of the ways that it offers.
        tokens: ids of captions as the model gets them, special ones included, padding left out; None: it cuts none.
        cleaned: what the program does to a caption before it is cut, beyond what our tokenizer does, too.
    """

    texts: Optional[Callable[[Sequence[str]], np.ndarray]] = None
    pixels: Optional[Callable[[np.ndarray], np.ndarray]] = None
    pictures: Dict[str, Callable[[Sequence["Image.Image"]], np.ndarray]] = field(default_factory=dict)
    tokens: Optional[Callable[[Sequence[str]], List[List[int]]]] = None
    cleaned: Callable[[str], str] = as_it_is


@dataclass(kw_only=True)
class ExportOptions:
    """Options of every format."""

    lang: Optional[str] = field(
        default=None,
        metadata={
            "help": "the language that the export is for, where the model treats each in a way of its own: adapters, "
            "frozen segmentation"
        },
    )
    corpus: Optional[str] = field(
        default=None,
        metadata={
            "help": "try its captions and pictures, too; for features: the one whose vectors are written",
            "metavar": "DIR",
        },
    )


class Export(ABC):
    """One format.

    Attributes:
        name: of the format. help: in a line; both are given to :func:`register_export`.
        programs: packages that load it, as pip calls them. needs: packages that write it, as Python imports them.
        library_name: what the front matter of the model card says.
        tolerance: largest difference from our vectors, as a share of a vector's length, that is a rounding error.
        Options: dataclass of its options.
        frozen: where frozen files of the network are now, as :meth:`Encoder.load` was told.
    """

    name: ClassVar[str]
    help: ClassVar[str]
    programs: ClassVar[Tuple[str, ...]]
    needs: ClassVar[Tuple[str, ...]] = ()
    library_name: ClassVar[str]
    tolerance: ClassVar[float] = TOLERANCE
    Options: ClassVar[type] = ExportOptions

    def __init__(self, options: ExportOptions, frozen: Optional[Mapping[str, Optional[str]]] = None):
        self.options = options
        self.frozen = {name: path for name, path in (frozen or {}).items() if path is not None}

    @abstractmethod
    def fits(self, encoder: "Encoder") -> Optional[str]:
        """None, or in words why this network has no such file: "its text tower has ..."."""

    def programs_for(self, encoder: "Encoder") -> Sequence[str]:
        """Those of :attr:`programs` that load this network's file. All by default."""
        return self.programs

    @abstractmethod
    def write(self, encoder: "Encoder", folder: Path) -> None:
        """Write the files into a folder, which is there.

        Raises:
            DataError: one cannot be written, or what the options name cannot be read. UserError: an option does not
                fit.
        """

    @abstractmethod
    def load(self, folder: Path, program: str) -> Stock:
        """The folder by one of :attr:`programs`, which is installed, and without this plugin."""

    @abstractmethod
    def example(self, encoder: "Encoder", folder: Path) -> str:
        """Lines of Python that load the folder and encode with it, for the model card. They run where the folder's
        parent is the working folder."""

    @property
    def tried_lang(self) -> Optional[str]:
        """The language of the captions that it is tried on."""
        return self.options.lang

    def samples(self, size: Optional[int]) -> Samples:
        """What it is tried on. `size`: of the network's pictures; None: it takes none.

        Raises:
            UserError, DataError: the corpus is none, or an image of it cannot be read.
        """
        return Samples.of_corpus(self.options.corpus, size) if self.options.corpus else Samples.own(size)

    def notes(self, encoder: "Encoder") -> List[str]:
        """Sentences for the model card on what is special about this format. None by default."""
        return []

    def require_fit(self, encoder: "Encoder") -> None:
        """Raises UserError: this network has no such file; the message names the formats that fit."""
        reason = self.fits(encoder)
        if reason is None:
            return
        others = [name for kind in known_exports() for name in _fitting(kind, encoder, self.options.lang)]
        advice = f"these formats fit: {', '.join(others)}" if others else "no format fits it"
        raise UserError(f"{encoder.source} does not fit {self.name}: {reason}; {advice}")


EXPORTS: Dict[str, Type[Export]] = {}


def register_export(name: str, help: str) -> Callable[[Type[Export]], Type[Export]]:
    """Class decorator: ``mlvl-export NAME``."""
    return registering(EXPORTS, "an export", name, name=name, help=help)


def known_exports() -> List[Type[Export]]:
    """All formats by name: every module of ``formats/`` is imported."""
    import_modules("mlvl_fairseq.export.formats")
    return [EXPORTS[name] for name in sorted(EXPORTS)]


def export_named(name: str) -> Type[Export]:
    """Raises UserError: there is no such format."""
    names = [kind.name for kind in known_exports()]
    if name not in names:
        raise UserError(f"there is no format '{name}' to export to; there are: {', '.join(names)}")
    return EXPORTS[name]


def _fitting(kind: Type[Export], encoder: "Encoder", lang: Optional[str]) -> List[str]:
    """The format's name, if it fits with nothing but what all of them are told, or with a language; else nothing."""
    for given, said in ((lang, kind.name), *((one, f"{kind.name} with --lang") for one in encoder.languages[:1])):
        if kind(kind.Options(lang=given)).fits(encoder) is None:
            return [said]
    return []
