"""What evaluators of examples share, each a text about one or more images: reading, images that are encoded once,
accuracy, and what lies beside a score."""

import csv
import io
from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from mlvl_fairseq.data.captions.table import POLICIES
from mlvl_fairseq.data.examples import Example, ExampleImages, Examples, example_readers, read_examples
from mlvl_fairseq.data.examples.base import NO_ANSWER, NO_GOLD_LABEL
from mlvl_fairseq.data.examples.dataset import Shown
from mlvl_fairseq.data.images.policy import BadImagePolicy, PictureOptions
from mlvl_fairseq.data.images.transforms import reading_of
from mlvl_fairseq.data.language_files import LANG, told_what_is_there
from mlvl_fairseq.digests import file_sha256
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.evaluators.base import (
    PICTURES,
    TRANSFORM,
    Evaluator,
    LeftOut,
    Result,
    option,
)
from mlvl_fairseq.evaluation.evaluators.retrieval import checksums, own_transform
from mlvl_fairseq.evaluation.evaluators.text_options import ENGLISH, TEXT_KEY, TextReadingOptions
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks
from mlvl_fairseq.evaluation.signature import Signature, data_fingerprint
from mlvl_fairseq.files import write_text
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.inference.examples import EncodedImages
from mlvl_fairseq.inference.matching import MEMORY

WRONG, REFERENCE = "wrong", "reference"
NEVER = np.iinfo(np.int32).max  # a rank behind all others


@dataclass(kw_only=True)
class ExampleEvaluationOptions(TextReadingOptions, PictureOptions):
    examples: str = option(
        "file of examples, plain or .gz; {lang} stands for each of --lang", identity=None, metavar="FILE"
    )
    lang: List[str] = option("language of the texts, or several: en,de,fr", metavar="LIST", languages=True)
    split: str = option("name of the split, for the signature", "test")
    examples_format: str = option(
        "format of the file; auto: told by its content",
        "auto",
        identity=None,
        choices=lambda: ("auto", *sorted(example_readers())),
    )
    image_root: str = option(
        "folder of the images; below it they are looked for as the data set publishes them",
        "",
        identity=None,
        metavar="DIR",
    )
    image_name: str = option(
        "how an image is called below --image-root, e.g. flickr30k-images/{image}.jpg; empty: whichever published "
        "layout is there",
        "",
        identity=None,
        metavar="TEMPLATE",
    )
    image_features: str = option(
        "given features instead of pictures, [images, positions, dimensions], with their names in FILE.txt, one a "
        "line; for models that were trained on such",
        "",
        identity=lambda path: file_sha256(path) if path else None,
        metavar="FILE.npy",
    )
    unlabelled: str = option(
        "examples without a label ('-', annotators did not agree) or an answer: wrong counts them as wrong, as IGLUE's "
        "numbers do; reference leaves them out, as the published code of CCLM does",
        WRONG,
        choices=(WRONG, REFERENCE),
    )
    on_problem: str = option(
        "unusable examples (no text, an unknown label, a missing image): count and leave out, or stop at the first",
        "skip",
        identity=None,
        choices=POLICIES,
    )
    max_problems: Optional[int] = option(
        "stop after so many unusable examples of a file", None, identity=None, metavar="N", least=0
    )
    batch_size: int = option("examples a batch", 64, identity=None, least=1)
    memory: int = option(
        "MiB of encoded images that are kept; others are encoded whenever texts need them",
        MEMORY,
        identity=None,
        least=1,
    )


class Judged(NamedTuple):
    """What a model says of examples.

    Attributes:
        ranks: int64 [n], of what is right among all that can be said, 0: it was said; `NEVER`: it was not among them.
        said: what it said of each.
        files: see :attr:`Result.files`.
    """

    ranks: np.ndarray
    said: List[str]
    files: Mapping = {}


@dataclass(frozen=True)
class UsableImages:
    """Attributes: names: of images that can be used. encoded: by name."""

    names: List[str]
    encoded: EncodedImages


class ExampleEvaluator(Evaluator):
    """What accuracy of examples needs.

    Attributes:
        images_per_text: how many images an example has; None: any number.
    """

    Options = ExampleEvaluationOptions
    metrics = ("accuracy",)
    keys = {
        "examples": "how many texts are scored",
        "unusable": "how many others could not be used",
        "unlabelled": "how many have no label or answer, and whether they count as wrong or are left out",
        **TEXT_KEY,
        TRANSFORM: "what cuts pictures for the model, where it is not CLIP's own preprocessing",
        PICTURES: "how pictures of more than 8 bits were read, where it is not as CLIP's preprocessing does",
    }
    images_per_text: ClassVar[Optional[int]] = None
    options: ExampleEvaluationOptions

    def read(self) -> Dict[str, Examples]:
        options, several = self.options, len(self.options.lang) > 1
        if several and LANG not in options.examples:
            raise UserError(f"--examples {options.examples} needs {LANG} where the language stands: there are several")
        self.opener = ExampleImages(options)
        found = {lang: self._read(lang) for lang in options.lang}
        for examples in found.values():
            self.check(examples)
        return found

    def _read(self, lang: str) -> Examples:
        options = self.options
        with told_what_is_there(lang, options.examples):
            return read_examples(
                options.examples.replace(LANG, lang),
                self.opener,
                format=options.examples_format,
                lang=lang,
                classes=self.given_classes(),
                keep_unlabelled=options.unlabelled == WRONG,
                on_problem=options.on_problem,
                max_problems=options.max_problems,
            )

    def given_classes(self) -> Sequence[str]:
        """Labels that options name. None by default."""
        return ()

    def check(self, examples: Examples) -> None:
        """Raises UserError: the file is of another kind than this evaluator scores."""
        if self.images_per_text not in (None, examples.images_per_text):
            other = {1: "nli", 2: "nlvr"}[examples.images_per_text] if examples.classes else "vqa"
            raise UserError(
                f"{examples.path}: {examples.images_per_text} images a text, not {self.images_per_text}: mlvl-evaluate "
                f"{other} scores it"
            )

    def averaged(self, languages):
        """All but English, which is what models are fine-tuned on; English, where it is alone."""
        return [lang for lang in languages if lang != ENGLISH] or list(languages)

    def fingerprint(self, data: Examples) -> str:
        names, rows = first_images(data.examples)
        texts = ["\t".join([*e.images[1:], e.text, str(e.label), *map(str, e.answers.items())]) for e in data.examples]
        return data_fingerprint(names, texts, rows)

    def source(self, data: Examples) -> str:
        return data.path

    def images(self, data: Examples) -> List[str]:
        return list(dict.fromkeys(name for example in data.examples for name in example.images))

    def encode_images(self, encoder: Encoder, names: List[str]) -> UsableImages:
        """Raises UserError: the network cannot say what is asked, or none of the images can be used."""
        self.require(encoder)
        options, given = self.options, self.opener.shape is not None
        if given != (encoder.network.preprocess is None):
            what = "features: give --image-features" if not given else "pictures: leave --image-features out"
            raise UserError(f"{encoder.source} takes {what}")
        transform = None if given else replace(encoder.preprocess, high_bit_depth=options.high_bit_depth)
        shown = Shown(self.opener, transform)
        images = EncodedImages(encoder, lambda name: shown(name, None, None), options.memory)
        usable = images.read(names, BadImagePolicy.of(options), options.batch_size)
        if not usable:
            raise UserError(f"{self.opener.where}: none of the {len(names)} images can be used")
        return UsableImages(usable, images)

    def without(self, data: Examples, images: Set[str]) -> Tuple[Examples, LeftOut]:
        kept = [example for example in data.examples if not images.intersection(example.images)]
        if not kept:
            raise UserError(f"{data.path}: no example has images that can be used")
        gone = LeftOut([name for name in self.images(data) if name in images], len(data) - len(kept))
        return replace(data, examples=kept), gone

    @abstractmethod
    def require(self, encoder: Encoder) -> None:
        """Raises UserError: the network cannot say what is asked."""

    @abstractmethod
    def judge(self, encoder: Encoder, lang: str, data: Examples, images: EncodedImages) -> Judged:
        """What the network says of every example.

        Args:
            lang: that the texts are in.
        """

    def own_keys(self, data: Examples) -> Dict[str, object]:
        """What an evaluator adds to the signature. Nothing by default."""
        return {}

    def score(self, encoder: Encoder, lang: str, data: Examples, images: Optional[UsableImages]) -> Result:
        encoder = self.options.read_by(encoder)
        judged = self.judge(encoder, self.options.read_in(lang), data, images.encoded)
        names, rows = first_images(data.examples)
        best = np.full(len(names), NEVER, np.int64)
        np.minimum.at(best, rows, judged.ranks)
        ranks = QueryRanks(checksums(names), rows, best, judged.ranks)
        files = {"said.csv": partial(write_said, examples=data.examples, judged=judged), **judged.files}
        accuracy = 100.0 * float(np.mean(judged.ranks == 0))
        return Result({"accuracy": accuracy}, self._signature(encoder, lang, data), ranks, files=files)

    def _signature(self, encoder: Encoder, lang: str, data: Examples) -> str:
        options, counts = self.options, data.problems.counts
        without = sum(counts[kind] for kind in (NO_GOLD_LABEL, NO_ANSWER))
        unusable = sum(counts.values()) - without
        own = {
            "examples": len(data),
            "unusable": unusable or None,
            "unlabelled": f"{without}-{'wrong' if options.unlabelled == WRONG else 'left-out'}" if without else None,
            **options.text_keys(),
            TRANSFORM: None if options.image_features else own_transform(encoder),
            PICTURES: reading_of(options.high_bit_depth),
            **self.own_keys(data),
        }
        return str(
            Signature(
                data=self.fingerprint(data),
                split=options.split,
                lang=lang,
                images=len(self.images(data)),
                texts=len(data),
                tok=encoder.tokenizer.name,
                maxlen=encoder.max_length,
                precision="fp32",
                own={key: value for key, value in own.items() if value is not None},
            )
        )


def first_images(examples: Sequence[Example]) -> Tuple[List[str], np.ndarray]:
    """The first image of every example, each once, and which of them is whose, int64 [examples]: examples that share
    it are drawn together in a bootstrap."""
    names = list(dict.fromkeys(example.images[0] for example in examples))
    row = {name: number for number, name in enumerate(names)}
    return names, np.array([row[example.images[0]] for example in examples])


def write_said(path: Path, examples: Sequence[Example], judged: Judged) -> None:
    """A CSV table, a row an example: line, id, what is right, what the model said, whether that is it."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["line", "id", "right", "said", "correct"])
    for example, said, rank in zip(examples, judged.said, judged.ranks):
        right = example.answer if example.label is None else example.label
        table.writerow([example.line, example.id, "-" if right is None else right, said, int(rank == 0)])
    write_text(path, out.getvalue())
