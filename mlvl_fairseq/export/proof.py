"""The proof of an export: the programs it is for load it, and are tried beside the network that it was made of."""

import contextlib
import importlib.metadata
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence

import numpy as np

from mlvl_fairseq.data.text.clip_bpe import BOS_TOKEN, EOS_TOKEN
from mlvl_fairseq.errors import UserError, one_line
from mlvl_fairseq.export.base import Export, Stock, as_it_is
from mlvl_fairseq.export.samples import Samples
from mlvl_fairseq.files import write_json

if TYPE_CHECKING:
    from mlvl_fairseq.inference import Encoder

logger = logging.getLogger(__name__)
PROOF = "proof.json"
COMMON = ("mlvl_fairseq", "torch", "tokenizers")
SPECIAL_WORDS = (BOS_TOKEN, EOS_TOKEN, *"<s> </s> <pad> <unk> <mask> [CLS] [SEP] [PAD] [UNK] [MASK]".split())


@dataclass
class TokenComparison:
    """Ids of captions.

    Attributes:
        captions: compared. differ: with other ids, though the program leaves the caption as it is.
        example: the first of these.
        special: with other ids, as they hold the name of a special token, which other tokenizers take for it.
        rewritten: that the program changes before it cuts them. rewritten_differ: of these, those with other ids than
            the caption as it is.
    """

    captions: int
    differ: int = 0
    example: Optional[str] = None
    special: int = 0
    rewritten: int = 0
    rewritten_differ: int = 0

    def said(self) -> str:
        """In words."""
        said = f"of {self.captions:,} captions {self.differ or 'none'} with other token ids"
        if self.special:
            said += f", besides {self.special} that name a special token"
        if self.rewritten:
            said += f"; it rewrites {self.rewritten} captions before it cuts them, {self.rewritten_differ} to other ids"
        return said


@dataclass
class Trial:
    """One program beside our network.

    Attributes:
        version: of the program. failure: why it does not give the same, in words; None: it does.
        texts, images: largest difference of any number of a vector, as a share of the vector's length; of images on
            equal pixels. None: there are none.
        pictures: the same where the program cuts the pictures, too, in each of its ways.
        tokens: ids of captions; None: the program cuts none.
    """

    version: str
    failure: Optional[str] = None
    texts: Optional[float] = None
    images: Optional[float] = None
    pictures: Dict[str, float] = field(default_factory=dict)
    tokens: Optional[TokenComparison] = None

    def said(self) -> str:
        """In a line, for people."""
        found = (("texts", self.texts), ("images", self.images))
        parts = [f"{name} differ by {value:.1e}" for name, value in found if value is not None]
        parts += [f"pictures that it cuts ({way}) by {value:.1e}" for way, value in self.pictures.items()]
        parts += [self.tokens.said()] if self.tokens is not None else []
        return "; ".join(parts + ([f"FAILED: {self.failure}"] if self.failure else []))


@dataclass
class Proof:
    """What ``proof.json`` says.

    Attributes:
        format: exported to. fingerprint: of the weights that were exported.
        tolerance: largest difference allowed, see :class:`Trial`.
        versions: of what all of this stands on. tried_on: captions and pictures, in words.
        proven: whether a program has tried it, and all that did found the same.
        trials: by program. not_installed: programs that nobody asked.
    """

    format: str
    fingerprint: str
    tolerance: float
    versions: Dict[str, str]
    tried_on: str
    proven: bool = False
    trials: Dict[str, Trial] = field(default_factory=dict)
    not_installed: List[str] = field(default_factory=list)

    def lines(self) -> List[str]:
        """For people, a sentence each."""
        said = [f"{name} {trial.version}: {trial.said()}" for name, trial in self.trials.items()]
        said += [f"{name}: not installed, so not proven" for name in self.not_installed]
        if not self.trials:
            return said
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        allowed = f"up to {self.tolerance:.0e} is allowed for texts, and for images on equal pixels"
        said.append(f"differences are shares of a vector's length; {allowed}")
        return [*said, f"tried on {self.tried_on}, with {versions}"]


def prove(export: Export, encoder: "Encoder", folder: Path, samples: Samples) -> Proof:
    """Let the programs of an export load it, try them, and write ``proof.json`` beside it, whatever comes out.

    Raises:
        UserError: something differs by more than the tolerance, or a program does not load it.
    """
    proof = Proof(export.name, encoder.fingerprint, export.tolerance, versions_of(COMMON), samples.source)
    programs = export.programs_for(encoder)
    installed = versions_of(programs)
    proof.not_installed = [name for name in programs if name not in installed]
    for name, version in installed.items():
        proof.trials[name] = _tried(name, version, export, encoder, folder, samples)
    failures = [f"{name} {trial.failure}" for name, trial in proof.trials.items() if trial.failure]
    proof.proven = bool(proof.trials) and not failures
    write_json(folder / PROOF, _plain(asdict(proof)))
    if failures:
        raise UserError(f"{folder} is not the model it was made of: {'; '.join(failures)}; see {PROOF} beside it")
    return proof


def _tried(name: str, version: str, export: Export, encoder: "Encoder", folder: Path, samples: Samples) -> Trial:
    trial, lang = Trial(version), export.tried_lang
    try:
        stock = export.load(folder, name)
    except Exception as error:  # whatever another program says of a folder that it does not like
        logger.debug("%s", folder, exc_info=True)
        trial.failure = f"does not load it: {one_line(error)}"
        return trial
    try:
        _compare(trial, stock, encoder, samples, lang)
    except UserError:  # ours
        raise
    except Exception as error:
        logger.debug("%s", folder, exc_info=True)
        trial.failure = f"loads it and does not run it: {one_line(error)}"
        return trial
    trial.failure = _failure(trial, export.tolerance)
    return trial


def _compare(trial: Trial, stock: Stock, encoder: "Encoder", samples: Samples, lang: Optional[str]) -> None:
    if stock.texts is not None:
        captions = [caption for caption in samples.captions if _as_ours(stock, caption)]
        trial.texts = difference(stock.texts(captions), encoder.encode_texts(captions, lang))
    if stock.tokens is not None:
        trial.tokens = _compare_tokens(stock, encoder, [*samples.captions, *samples.more_captions], lang)
    if stock.pixels is not None:
        _try_images(trial, stock, encoder, samples)


def _try_images(trial: Trial, stock: Stock, encoder: "Encoder", samples: Samples) -> None:
    if encoder.network.preprocess is None:
        features = np.random.default_rng(0).normal(size=(8, encoder.network.feature_dim)).astype(np.float32)
        trial.images = difference(stock.pixels(features), encoder.encode_features(features))
        return
    import torch

    pixels = torch.stack([encoder.preprocess(picture) for picture in samples.pictures])
    ours = encoder.encode_images(pixels)
    trial.images = difference(stock.pixels(pixels.numpy()), ours)
    for name, encode in stock.pictures.items():
        trial.pictures[name] = difference(encode(samples.pictures), ours)


def _failure(trial: Trial, tolerance: float) -> Optional[str]:
    """What is not the same, in words."""
    wrong = []
    for name, value in (("texts", trial.texts), ("images", trial.images)):
        if value is not None and not value <= tolerance:
            wrong.append(f"gives {name} that differ by {value:.1e} of a vector's length, more than {tolerance:.0e}")
    if trial.tokens is not None and trial.tokens.differ:
        wrong.append(f"gives {trial.tokens.differ} captions other token ids, such as {trial.tokens.example!r}")
    return "; ".join(wrong) or None


def difference(theirs: np.ndarray, ours: np.ndarray) -> float:
    """The largest difference of two arrays [n, dims] of vectors, as a share of ours' lengths; not a number, if theirs
    has another shape or holds such."""
    if theirs.shape != ours.shape:
        return float("nan")
    lengths = np.linalg.norm(ours, axis=1, keepdims=True)
    return float(np.max(np.abs(theirs.astype(np.float64) - ours) / np.maximum(lengths, 1e-12)))


def versions_of(packages: Sequence[str]) -> Dict[str, str]:
    """Those of packages that are installed."""
    found = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _as_ours(stock: Stock, caption: str) -> bool:
    """Whether the program cuts the caption as it is, and not another one."""
    return stock.cleaned is as_it_is or _spaces(stock.cleaned(caption)) == _spaces(caption)


def _spaces(text: str) -> str:
    return " ".join(text.split())


def _compare_tokens(stock: Stock, encoder: "Encoder", captions: List[str], lang: Optional[str]) -> TokenComparison:
    found = TokenComparison(len(captions))
    ours, theirs = encoder.tokenize(captions, lang), stock.tokens(captions)
    for caption, own, other in zip(captions, ours, theirs, strict=True):
        if not _as_ours(stock, caption):
            found.rewritten += 1
            found.rewritten_differ += own != other
            own = encoder.tokenize([stock.cleaned(caption)], lang)[0]
        if own == other:
            continue
        if any(word in caption for word in SPECIAL_WORDS):
            found.special += 1
        else:
            found.differ += 1
            found.example = found.example or caption
    return found


def _plain(value: Any) -> Any:
    """For JSON, which has no numbers that are not finite."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value
