"""What a source of pictures offers: their names, when each was changed, and the pictures by name."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Callable, ClassVar, Dict, List, Sequence, Type

import numpy as np

from mlvl_fairseq.docstrings import summary
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.registry import registering

if TYPE_CHECKING:
    from PIL import Image
    from torch.utils.data import Dataset

NO_FILE = -1  # both stamps of a picture that is not there


class Source(ABC):
    """Pictures that lie together. The first line of a subclass says what it reads.

    Args:
        path: the folder or file, absolute.

    Attributes:
        kind: its name in an index; `register_source` sets it.
        order: sources are asked in this order whether a path is theirs.
    """

    kind: ClassVar[str]
    order: ClassVar[int] = 0

    def __init__(self, path):
        self.path = Path(path)

    @staticmethod
    @abstractmethod
    def recognises(path: Path) -> bool:
        """Whether a path (it exists) is one of these."""

    @abstractmethod
    def names(self) -> List[str]:
        """Of all pictures, sorted; what is left out is told.

        Raises:
            DataError: there is no such source any more, or it cannot be read.
        """

    @abstractmethod
    def stamps(self, names: Sequence[str]) -> np.ndarray:
        """int64 [names, 2]: what changes when a picture does; :data:`NO_FILE` where there is none."""

    @abstractmethod
    def dataset(self, names: Sequence[str], transform: Callable) -> "Dataset":
        """`LoadedImage` of each name; its ``names`` are these."""

    @abstractmethod
    def picture(self, name: str, max_pixels: int) -> "Image.Image":
        """One picture, decoded, in the file's own mode.

        Raises:
            DataError: it is gone, cannot be decoded, or has more than `max_pixels`.
        """


SOURCES: Dict[str, Type[Source]] = {}


def register_source(kind: str) -> Callable[[Type[Source]], Type[Source]]:
    """Class decorator: make a kind of source known."""
    return registering(SOURCES, "a source", kind, kind=kind)


def source_of(path) -> Source:
    """What a user's path is.

    Raises:
        DataError: nothing is there, or nothing that holds pictures.
    """
    path = Path(path).absolute()
    if not path.exists():
        raise DataError("no such folder or file", path)
    for source in sorted(SOURCES.values(), key=lambda one: (one.order, one.kind)):
        if source.recognises(path):
            return source(path)
    known = "; ".join(summary(source) for source in SOURCES.values())
    raise DataError(f"is nothing that pictures are read from: give {known}", path)


def open_source(kind: str, path: str) -> Source:
    """A source that an index names.

    Raises:
        DataError: this program does not know its kind.
    """
    if kind not in SOURCES:
        raise DataError(f"is a source of kind '{kind}', and there are: {', '.join(sorted(SOURCES))}", path)
    return SOURCES[kind](path)
