"""What an evaluator is: options, data, scores of one language, the signature that says how they were computed.

An evaluator is one file of this folder with a class under `register_evaluator`; ``mlvl-evaluate NAME`` finds it and its
options. All share what is here: the model scores one language after another, images are encoded once, and what is
finished in a folder is not repeated.
"""

import os
from abc import ABC, abstractmethod
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Callable, ClassVar, Dict, List, Mapping, Optional, Sequence, Tuple, Type

import numpy as np
from tqdm import tqdm

from mlvl_fairseq.codes import split_name
from mlvl_fairseq.data.features import file_sha256
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks, ranks_path
from mlvl_fairseq.evaluation.signature import common_signature, parse_signature
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.runs.result_folder import ResultFolder

Scores = Dict[str, Any]  # metric -> value, and ``signature``


def _value(value: Any) -> Any:
    return value


def option(help: str, default: Any = MISSING, identity: Optional[Callable[[Any], Any]] = _value, **shown: Any):
    """A field of an options dataclass; commands make flags of them (`mlvl_fairseq.cli.common.add_dataclass_options`).

    Args:
        help: what it is. default: none: the option must be given.
        identity: value -> what all results of one folder share of it, for JSON: by default the value itself; of a file
            rather :func:`~mlvl_fairseq.data.features.file_sha256`. None for an option that changes no score, or only
            what is scored, which the data's fingerprint says. Languages have a file each, and need none.
        shown: ``metavar``, ``choices``; ``least``, the smallest number allowed; ``group``, the heading it stands under;
            ``languages``: a comma list or a named order becomes a list of languages.
    """
    if shown.get("languages"):
        identity = None
    return field(default=default, metadata={"help": help, "identity": identity, **shown})


_IMAGES = "images (one of both)"


@dataclass(kw_only=True)
class ImageOptions:
    """Where images come from: files, or features that the user has."""

    image_root: Optional[str] = option(
        "folder of the images", None, identity=os.path.abspath, metavar="DIR", group=_IMAGES
    )
    allow_outside_root: bool = option(
        "open images whose names are absolute or lead out of --image-root", False, identity=None, group=_IMAGES
    )
    image_features: Optional[str] = option(
        "features of the images: what the model's image head takes, or features of the model's own space if it has no "
        "head",
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

    def check_images(self) -> None:
        """Raises UserError: not exactly one source of images is given."""
        if bool(self.image_root) == bool(self.image_features) or bool(self.image_list) != bool(self.image_features):
            raise UserError("give either --image-root DIR or --image-features FILE.npy with --image-list FILE.txt")

    def encode_images(self, encoder: Encoder, names: List[str]) -> np.ndarray:
        """float32 [names, embed_dim] in the order of `names`.

        Raises:
            UserError: the model has no image tower, or takes features of another dimension.
            DataError: an image or a file of features cannot be read, or lacks a name.
        """
        if self.image_features:
            from mlvl_fairseq.data.feature_arrays import import_features

            return encoder.encode_features(import_features(self.image_features, self.image_list, names))
        return encoder.encode_image_files(
            self.image_root, names, self.batch_size, self.num_workers, self.allow_outside_root
        )


@dataclass(frozen=True)
class ImageFeatures:
    """Features by image name.

    Attributes:
        names: unique. features: [names, dims].
    """

    names: List[str]
    features: np.ndarray

    def of(self, names: Sequence[str]) -> np.ndarray:
        """[len(names), dims] in the order of `names`; no copy where it is the stored one."""
        if list(names) == self.names:
            return self.features
        rows = {name: row for row, name in enumerate(self.names)}
        return self.features[[rows[name] for name in names]]


@dataclass(frozen=True)
class Result:
    """What a model reaches in one language.

    Attributes:
        scores: metric -> value.
        signature: what they were computed on and how (`mlvl_fairseq.evaluation.signature.Signature`, as text).
        ranks: of every query, where there are queries: what `mlvl-report --compare` draws from.
    """

    scores: Dict[str, float]
    signature: str
    ranks: Optional[QueryRanks] = None

    def to_json(self) -> Scores:
        return {**self.scores, "signature": self.signature}


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
        value what its ``identity`` says."""
        settings = {}
        for entry in fields(self.options):
            identity, value = entry.metadata.get("identity", _value), getattr(self.options, entry.name)
            if identity is not None and value is not None:
                settings[entry.name] = identity(value)
        return settings

    @abstractmethod
    def fingerprint(self, data: Any) -> str:
        """Of one language's data, as in the signature's ``data``."""

    @abstractmethod
    def source(self, data: Any) -> str:
        """The file that one language's data are from, for messages."""

    def images(self, data: Any) -> List[str]:
        """The images that one language needs: they are encoded once for all languages. None by default."""
        return []

    def encode_images(self, encoder: Encoder, names: List[str]) -> np.ndarray:
        """float32 [names, dims]; by default from the options that :class:`ImageOptions` has."""
        return self.options.encode_images(encoder, names)

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

    def register(evaluator: Type[Evaluator]) -> Type[Evaluator]:
        if name in EVALUATORS:
            raise ValueError(f"evaluator '{name}' is registered twice")
        evaluator.name = name
        EVALUATORS[name] = evaluator
        return evaluator

    return register


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
    images = ImageFeatures(names, evaluator.encode_images(encoder, names)) if names else None
    for lang in tqdm(waiting, desc="evaluate", unit=" languages", disable=len(waiting) < 2):
        result = evaluator.score(encoder, lang, data[lang], images)
        scores[lang] = result.to_json()
        if results:
            _keep(results, _result_name(evaluator, lang), result)
    return {lang: scores[lang] for lang in data}


def average_scores(scores: Mapping[str, Scores], metrics: Sequence[str]) -> Scores:
    """Each metric's mean over languages, and the signature with ``*`` where theirs differ."""
    means = {metric: float(np.mean([one[metric] for one in scores.values()])) for metric in metrics}
    return {**means, "signature": common_signature(str(one["signature"]) for one in scores.values())}


def _result_name(evaluator: Evaluator, lang: str) -> str:
    return f"{lang}.{evaluator.options.split}"


def _keep(results: ResultFolder, name: str, result: Result) -> None:
    """Ranks go before their score: where there is a score, there are its ranks."""
    if result.ranks is not None:
        result.ranks.save(ranks_path(results.path(name)))
    results.put(name, result.to_json())


def _finished(evaluator: Evaluator, results: ResultFolder, lang: str, data: Any) -> Optional[Scores]:
    name = _result_name(evaluator, lang)
    scores = results.get(name)
    if scores is None:
        return None
    if parse_signature(str(scores.get("signature", ""))).get("data") != evaluator.fingerprint(data):
        raise UserError(
            f"{results.path(name)} holds the scores of other data than {evaluator.source(data)}: choose another "
            "folder, or delete the file"
        )
    return scores
