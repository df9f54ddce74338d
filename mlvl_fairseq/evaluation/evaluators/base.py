"""What an evaluator is: options, data, scores of one language, the signature that says how they were computed.

An evaluator is one file of this folder with a class under `register_evaluator`; ``mlvl-evaluate NAME`` finds it and its
options. All share what is here: the model scores one language after another, images are encoded once, and what is
finished in a folder is not repeated.
"""

import logging
import os
from abc import ABC, abstractmethod
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Callable, ClassVar, Dict, List, Mapping, Optional, Sequence, Set, Tuple, Type

import numpy as np
from torch.utils.data import Dataset
from tqdm import tqdm

from mlvl_fairseq.codes import split_name
from mlvl_fairseq.data.feature_arrays import import_features, is_grid
from mlvl_fairseq.data.feature_grids import GridDataset
from mlvl_fairseq.data.images.policy import BadImagePolicy, PictureOptions
from mlvl_fairseq.data.images.transforms import reading_of
from mlvl_fairseq.digests import file_sha256
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks, ranks_path
from mlvl_fairseq.evaluation.signature import LEFT_OUT, common_signature, parse_signature
from mlvl_fairseq.inference.encoder import Encoder, Keep
from mlvl_fairseq.json_files import checked
from mlvl_fairseq.registry import registering
from mlvl_fairseq.runs.result_folder import ResultFolder

logger = logging.getLogger(__name__)

EXAMPLES = 3  # named in messages
_AGAIN = "delete it and run the same command again"
Scores = Dict[str, Any]  # metric -> value, and ``signature``


def _value(value: Any) -> Any:
    return value


def option(help: str, default: Any = MISSING, identity: Optional[Callable[[Any], Any]] = _value, **shown: Any):
    """A field of an options dataclass; commands make flags of them (`mlvl_fairseq.cli.common.add_dataclass_options`).

    Args:
        help: what it is. default: none: the option must be given.
        identity: value -> what all results of one folder share of it, for JSON: by default the value itself; of a file
            rather :func:`~mlvl_fairseq.data.features.file_sha256`. None for an option that changes no score, or
            only what is scored, which the data's fingerprint says. Languages have a file each, and need none.
        shown: ``metavar``, ``choices``; ``least``, the smallest number allowed; ``group``, the heading it stands under;
            ``languages``: a comma list or a named order becomes a list of languages; ``repeated``: may be given several
            times and is a list.
    """
    if shown.get("languages"):
        identity = None
    return field(default=default, metadata={"help": help, "identity": identity, **shown})


_IMAGES = "images"
TRANSFORM, PICTURES = "transform", "pictures"  # keys of signatures


@dataclass(kw_only=True)
class GivenFeatures(PictureOptions):
    """Features that the user has instead of pictures, and how pictures are read."""

    image_features: Optional[str] = option(
        "features of the images: what the model's image head takes, or features of the model's own space if it has no "
        "head; or grids of states [images, positions, dimensions], of a model that was trained on such",
        None,
        identity=file_sha256,
        metavar="FILE.npy",
        group=_IMAGES,
    )
    image_list: Optional[str] = option(
        "with --image-features: their image names, one a line",
        None,
        identity=file_sha256,
        metavar="FILE.txt",
        group=_IMAGES,
    )
    batch_size: int = option("images a batch", 64, identity=None, least=1, group=_IMAGES)
    num_workers: int = option("processes that read images", 0, identity=None, least=0, group=_IMAGES)

    def picture_keys(self) -> Dict[str, object]:
        """What signatures say of how pictures were read; nothing where it is as by default."""
        reading = None if self.image_features else reading_of(self.high_bit_depth)
        return {PICTURES: reading} if reading else {}


@dataclass(kw_only=True)
class ImageOptions(GivenFeatures):
    """Where images come from: files, or features that the user has."""

    image_root: Optional[str] = option(
        "folder of the images", None, identity=os.path.abspath, metavar="DIR", group=_IMAGES
    )
    allow_outside_root: bool = option(
        "open images whose names are absolute or lead out of --image-root", False, identity=None, group=_IMAGES
    )

    def check_images(self) -> None:
        """Raises UserError: not exactly one source of images is given."""
        if bool(self.image_root) == bool(self.image_features) or bool(self.image_list) != bool(self.image_features):
            raise UserError("give either --image-root DIR or --image-features FILE.npy with --image-list FILE.txt")

    def images_to_encode(self, encoder: Encoder, names: List[str]) -> Dataset:
        """Pictures, or grids of given states. Raises UserError: the model takes no such. DataError: as GridDataset."""
        if not self.image_features:
            return encoder.image_files(self.image_root, names, self.high_bit_depth, self.allow_outside_root)
        grids = GridDataset(self.image_features, self.image_list, names)
        encoder.require_grids(grids.grids.shape[1:], self.image_features)
        return grids

    def encode_images(self, encoder: Encoder, names: List[str], keep: Optional[Keep] = None) -> "ImageFeatures":
        """Features in the encoder's space, in the order of `names`; those that cannot be used are left out. `keep`: see
        :meth:`Encoder.encode_image_dataset`; vectors have no states to keep.

        Raises:
            UserError: the model has no image tower, or takes features of another dimension; or no image can be used.
            DataError: an image or a file of features cannot be read, or lacks a name, and ``--bad-image`` does not
                allow it.
        """
        policy = BadImagePolicy.of(self)
        if self.image_features and not is_grid(self.image_features):
            given, bad = import_features(self.image_features, self.image_list, names, policy)
            return ImageFeatures.usable(names, encoder.encode_features(given), bad)
        images, source = self.images_to_encode(encoder, names), self.image_features or str(self.image_root)
        features = encoder.encode_image_dataset(images, names, self.batch_size, self.num_workers, policy, source, keep)
        return ImageFeatures.usable(names, features, np.flatnonzero(~features.any(axis=1)))


@dataclass(frozen=True)
class ImageFeatures:
    """Features by image name.

    Attributes:
        names: unique; those of images that cannot be used are not among them. features: [names, dims].
    """

    names: List[str]
    features: np.ndarray

    @classmethod
    def usable(cls, names: Sequence[str], features: np.ndarray, bad: np.ndarray, where: str = "") -> "ImageFeatures":
        """Those of images that can be used.

        Args:
            names: of the rows of `features` [names, dims]. bad: rows that cannot be used. where: for the message.

        Raises:
            UserError: none can.
        """
        if len(bad) == len(names):
            raise UserError(f"{where + ': ' if where else ''}none of the {len(names)} images can be used")
        if not len(bad):
            return cls(list(names), features)
        rows = np.delete(np.arange(len(names)), bad)
        return cls([names[row] for row in rows], features[rows])

    def of(self, names: Sequence[str]) -> np.ndarray:
        """[len(names), dims] in the order of `names`; no copy where it is the stored one."""
        if list(names) == self.names:
            return self.features
        rows = {name: row for row, name in enumerate(self.names)}
        return self.features[[rows[name] for name in names]]


@dataclass(frozen=True)
class LeftOut:
    """What of a language's data cannot be used.

    Attributes:
        images: their names. texts: number of captions.
    """

    images: List[str]
    texts: int

    def to_json(self) -> Dict[str, object]:
        return {LEFT_OUT: {"images": self.images, "texts": self.texts}}

    def tell(self, name: str) -> None:
        """Warn of it; `name` is that of the data."""
        examples = ", ".join(self.images[:EXAMPLES]) + (", ..." if len(self.images) > EXAMPLES else "")
        texts = f", with their {self.texts} captions" if self.texts else ""
        message = "%s: %d images that cannot be used are left out%s: %s"
        logger.warning(message, name, len(self.images), texts, examples)


@dataclass(frozen=True)
class Result:
    """What a model reaches in one language.

    Attributes:
        scores: metric -> value.
        signature: what they were computed on and how (`mlvl_fairseq.evaluation.signature.Signature`, as text).
        ranks: of every query, where there are queries: what `mlvl-report --compare` draws from.
        left_out: what has not been scored; None: nothing was left out.
        files: what a folder of results gets beside the score: ending of the name -> what writes it, given the path.
    """

    scores: Dict[str, float]
    signature: str
    ranks: Optional[QueryRanks] = None
    left_out: Optional[LeftOut] = None
    files: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)

    def to_json(self) -> Scores:
        return {**self.scores, "signature": self.signature, **(self.left_out.to_json() if self.left_out else {})}


class Evaluator(ABC):
    """Scores a model, a language at a time. The docstring of a subclass is the help of ``mlvl-evaluate NAME``.

    Attributes:
        name: on the command line; `register_evaluator` sets it.
        Options: dataclass of its options, every field an :func:`option`; ``split`` names the results.
        metrics: names of its scores, in the order in which they are shown; higher is better.
        keys: what it adds to signatures: key -> what the key says.
        examples: command lines, for its help.
        options: those given.
    """

    name: ClassVar[str]
    Options: ClassVar[type]
    metrics: ClassVar[Tuple[str, ...]]
    keys: ClassVar[Mapping[str, str]] = {}
    examples: ClassVar[str] = ""

    def __init__(self, options):
        """Raises UserError: the split's name is none that a file can have."""
        self.options = options
        split_name(options.split)

    @abstractmethod
    def read(self) -> Dict[str, Any]:
        """Language -> what it is scored on, of any type. All files are read and checked before the model is."""

    def settings(self) -> Dict[str, object]:
        """What all results of one folder share, the model and the version apart, for JSON: of every option that has a
        value what its ``identity`` says, if it says anything."""
        settings = {}
        for entry in fields(self.options):
            identity, value = entry.metadata.get("identity", _value), getattr(self.options, entry.name)
            says = identity(value) if identity is not None and value is not None else None
            if says is not None:
                settings[entry.name] = says
        return settings

    @abstractmethod
    def fingerprint(self, data: Any) -> str:
        """Of one language's data, as in the signature's ``data``."""

    def same(self, data: Any, signature: Mapping[str, str]) -> bool:
        """Whether a finished score is of one language's data, by the keys and values of its signature."""
        return signature.get("data") == self.fingerprint(data)

    @abstractmethod
    def source(self, data: Any) -> str:
        """The file that one language's data are from, for messages."""

    def averaged(self, languages: Sequence[str]) -> List[str]:
        """Those of the languages that the average is over. All by default."""
        return list(languages)

    def images(self, data: Any) -> List[str]:
        """The images that one language needs: they are encoded once for all languages. None by default."""
        return []

    def encode_images(self, encoder: Encoder, names: List[str]) -> ImageFeatures:
        """Those of `names` that can be used; by default from the options that :class:`ImageOptions` has."""
        return self.options.encode_images(encoder, names)

    def without(self, data: Any, images: Set[str]) -> Tuple[Any, LeftOut]:
        """One language's data without images that cannot be used, and what has gone.

        Raises:
            UserError: nothing is left; by default always.
        """
        raise UserError(f"{self.source(data)}: {len(images)} images cannot be used, {sorted(images)[0]!r} among them")

    @abstractmethod
    def score(self, encoder: Encoder, lang: str, data: Any, images: Optional[ImageFeatures]) -> Result:
        """Score the model on one language.

        Args:
            encoder: the model; it need not have learned the language (zero-shot).
            lang: the language. data: as :meth:`read` gave it.
            images: features of at least the images it asked for; None: no language needs any.
        """


EVALUATORS: Dict[str, Type[Evaluator]] = {}


def register_evaluator(name: str) -> Callable[[Type[Evaluator]], Type[Evaluator]]:
    """Class decorator: make an evaluator available as ``mlvl-evaluate NAME``."""
    return registering(EVALUATORS, "an evaluator", name, name=name)


def evaluate(
    evaluator: Evaluator, encoder: Encoder, data: Mapping[str, Any], results: Optional[ResultFolder] = None
) -> Dict[str, Scores]:
    """Score a model on every language, each as if it were evaluated alone.

    Args:
        evaluator: what is scored. encoder: the model.
        data: what :meth:`Evaluator.read` gave. Languages may have different images, in different orders; images are
            encoded once, and not at all where every language is finished.
        results: where finished languages are found and kept, as ``<language>.<split>``, ranks beside scores.

    Returns:
        language -> metrics and ``signature``.

    Raises:
        UserError: a finished language was scored on other data, or the model does not fit the data.
    """
    finished = {lang: _finished(evaluator, results, lang, data[lang]) for lang in data} if results else {}
    scores = {lang: found for lang, found in finished.items() if found}
    waiting = [lang for lang in data if lang not in scores]
    names = list(dict.fromkeys(name for lang in waiting for name in evaluator.images(data[lang])))
    images = evaluator.encode_images(encoder, names) if names else None
    unusable = set(names) - set(images.names) if images else set()
    for lang in tqdm(waiting, desc="evaluate", unit=" languages", disable=len(waiting) < 2):
        theirs = unusable.intersection(evaluator.images(data[lang]))
        usable, left_out = evaluator.without(data[lang], theirs) if theirs else (data[lang], None)
        if left_out:
            left_out.tell(lang)
        result = replace(evaluator.score(encoder, lang, usable, images), left_out=left_out)
        scores[lang] = result.to_json()
        if results:
            _keep(results, _result_name(evaluator, lang), result)
    return {lang: scores[lang] for lang in data}


def average_scores(scores: Mapping[str, Scores], metrics: Sequence[str]) -> Scores:
    """Each metric's mean over languages, and the signature with ``*`` where theirs differ."""
    means = {metric: float(np.mean([one[metric] for one in scores.values()])) for metric in metrics}
    return {**means, "signature": common_signature(str(one["signature"]) for one in scores.values())}


@dataclass
class _FinishedScores:
    """What a file of scores holds beside its metrics."""

    signature: str = ""
    left_out: Optional[LeftOut] = None


def _result_name(evaluator: Evaluator, lang: str) -> str:
    return f"{lang}.{evaluator.options.split}"


def _keep(results: ResultFolder, name: str, result: Result) -> None:
    """What is beside a score goes before it: where there is a score, there are its ranks."""
    path = results.path(name)
    if result.ranks is not None:
        result.ranks.save(ranks_path(path))
    for ending, write in result.files.items():
        write(path.with_suffix(f".{ending}"))
    results.put(name, result.to_json())


def _finished(evaluator: Evaluator, results: ResultFolder, lang: str, data: Any) -> Optional[Scores]:
    name = _result_name(evaluator, lang)
    scores = results.get(name)
    if scores is None:
        return None
    path = results.path(name)
    found = checked(scores, _FinishedScores, path, advice=_AGAIN)
    for metric in evaluator.metrics:
        checked(scores.get(metric), float, path, metric, _AGAIN)
    if found.left_out and found.left_out.images:
        _require_skip(evaluator, path, found.left_out.images)
        data, _ = evaluator.without(data, set(found.left_out.images))
    if not evaluator.same(data, parse_signature(found.signature, path)):
        raise UserError(
            f"{path} holds the scores of other data than {evaluator.source(data)}: choose another folder, or delete "
            "the file"
        )
    return scores


def _require_skip(evaluator: Evaluator, path, left_out: Sequence[str]) -> None:
    """Raises UserError: scores without some images are there, and are not asked for."""
    if getattr(evaluator.options, "bad_image", "skip") != "skip":
        raise UserError(
            f"{path} holds scores without {len(left_out)} images that could not be used, such as {left_out[0]!r}: say "
            "--bad-image skip, or mend them and choose another folder"
        )
