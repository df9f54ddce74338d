"""A linear probe: what few labelled images make of a model's image features."""

import csv
import io
import logging
import os
from dataclasses import dataclass, replace
from functools import partial
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np
from tqdm import tqdm

from mlvl_fairseq.data.classification import DATA_SETS, LabelledImages
from mlvl_fairseq.digests import file_sha256
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.evaluators.base import (
    TRANSFORM,
    Evaluator,
    ImageFeatures,
    LeftOut,
    Result,
    option,
    register_evaluator,
)
from mlvl_fairseq.evaluation.evaluators.labelled_images import KEYS, LabelledOptions, images_fingerprint
from mlvl_fairseq.evaluation.evaluators.retrieval import checksums
from mlvl_fairseq.evaluation.metrics.classification import METRICS, accuracies, metric_names
from mlvl_fairseq.evaluation.metrics.linear_probe import Probe, draw_shots, fit_probe
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks
from mlvl_fairseq.evaluation.signature import Signature
from mlvl_fairseq.files import write_text
from mlvl_fairseq.inference.encoder import Encoder

logger = logging.getLogger(__name__)

NO_LANGUAGE = "zxx"  # ISO 639-2's code for what has no linguistic content: results need one
TRAIN, TEST = "train", "test"
_PROBE = "training images"


@dataclass(kw_only=True)
class ProbeOptions(LabelledOptions):
    train_root: Optional[str] = option(
        "folder of the training images (default: --root, where the data set's files have a training split)",
        None,
        identity=os.path.abspath,
        metavar="DIR",
        group=_PROBE,
    )
    train_split: str = option("split that is trained on", "train", group=_PROBE)
    train_features: Optional[str] = option(
        "with --image-features: features of the training images", None, file_sha256, metavar="FILE.npy", group=_PROBE
    )
    train_list: Optional[str] = option(
        "with --train-features: their image names, one a line", None, file_sha256, metavar="FILE.txt", group=_PROBE
    )
    shots: int = option("images a class; 0: all", 16, least=0, group=_PROBE)
    seeds: int = option("so many draws, of which scores are the mean", 3, least=1, group=_PROBE)


@dataclass(frozen=True)
class ProbeTask:
    """Images to train on, of the same classes in the same order as those to test on."""

    train: LabelledImages
    test: LabelledImages


class Outcome(NamedTuple):
    """What one draw led to."""

    images: int
    probe: Probe
    ranks: np.ndarray


@register_evaluator("linear_probe")
class LinearProbe(Evaluator):
    """Few-shot classification: logistic regression on image features, from some images a class.

    top1, top5, top10, mean_per_class: as of classification, in %, the mean over --seeds draws of --shots images a
    class. How strongly it is regularised is chosen on a quarter of the drawn images (C = 1 with one shot), never on
    test images. With --output-dir also zxx.SPLIT.seeds.csv, a row a draw. (zxx: no language.)
    """

    Options = ProbeOptions
    metrics = METRICS
    keys = {
        **KEYS,
        "train": "fingerprint of all images that are drawn from",
        "shots": "training images a class",
        "seeds": "draws that scores are the mean of",
        TRANSFORM: "what cuts pictures for the model",
    }
    examples = """\
  mlvl-evaluate linear_probe --checkpoint ViT-B-32.pt --data-set cifar10 --root data --shots 4
  mlvl-evaluate linear_probe --checkpoint model.pt --data-set folder --root test --train-root train --shots 1 --seeds 10
"""

    options: ProbeOptions

    def read(self) -> Dict[str, ProbeTask]:
        options = self.options
        if bool(options.train_features) != bool(options.train_list):
            raise UserError("--train-features FILE.npy and --train-list FILE.txt are given together")
        if bool(options.train_features) != bool(options.image_features):
            raise UserError("--image-features and --train-features are given together: both are of one model")
        test = options.read_images()
        train = DATA_SETS[options.data_set]().read(options.train_root or options.root, options.train_split)
        if os.path.realpath(train.path) == os.path.realpath(test.path):
            raise UserError(f"{test.path} is both trained and tested on: give other images with --train-root")
        position = {key: row for row, key in enumerate(train.keys)}
        missing = [key for key in test.keys if key not in position]
        if missing:
            raise UserError(f"{train.path} lacks {len(missing)} of {len(test.keys)} classes, such as {missing[0]!r}")
        self.task = ProbeTask(train.of_classes([position[key] for key in test.keys]), test)
        self.metrics = metric_names(len(test.keys))
        self._draws(self.task, tell=True)
        return {NO_LANGUAGE: self.task}

    def _draws(self, task: ProbeTask, tell: bool = False) -> List[np.ndarray]:
        """Rows of the training images, a draw each."""
        options, train = self.options, task.train
        counts = np.bincount(train.labels, minlength=len(train.keys))
        few = np.flatnonzero(counts < max(options.shots, 1))
        if not counts.min():
            raise UserError(f"{train.path}: class {train.keys[few[0]]!r} has no image to learn from")
        if len(few) and tell:
            message = "%s: %d classes have fewer than %d images, such as %r with %d"
            logger.warning(message, train.path, len(few), options.shots, train.keys[few[0]], counts[few[0]])
        seeds = range(1, options.seeds + 1)
        return [draw_shots(train.labels, len(train.keys), options.shots, seed) for seed in seeds]

    def fingerprint(self, data: ProbeTask) -> str:
        return images_fingerprint(data.test)

    def same(self, data: ProbeTask, signature: Mapping[str, str]) -> bool:
        return super().same(data, signature) and signature.get("train") == images_fingerprint(data.train)

    def source(self, data: ProbeTask) -> str:
        return f"{data.test.path} with the training images of {data.train.path}"

    def images(self, data: ProbeTask) -> List[str]:
        drawn = np.unique(np.concatenate(self._draws(data)))
        train = [f"{TRAIN}:{data.train.images[row]}" for row in drawn]
        return [*train, *(f"{TEST}:{name}" for name in data.test.images)]

    def encode_images(self, encoder: Encoder, names: List[str]) -> ImageFeatures:
        options = self.options
        given = {TRAIN: (options.train_features, options.train_list) if options.train_features else None}
        given[TEST] = options.given
        parts = []
        for part, images in ((TRAIN, self.task.train), (TEST, self.task.test)):
            own = [name.partition(":")[2] for name in names if name.startswith(f"{part}:")]
            if own:
                found = options.encode(encoder, images, own, given[part])
                parts.append(ImageFeatures([f"{part}:{name}" for name in found.names], found.features))
        return ImageFeatures(
            [name for part in parts for name in part.names], np.concatenate([p.features for p in parts])
        )

    def without(self, data: ProbeTask, images: Set[str]) -> Tuple[ProbeTask, LeftOut]:
        """Other images may be drawn then: those are not encoded, so that the whole draw stays as it is but for the
        images that are gone (:meth:`score`)."""
        test = data.test.without(_of(images, TEST))
        if not len(test):
            raise UserError(f"{data.test.path}: none of its {len(data.test)} images can be used")
        return replace(data, test=test), LeftOut(sorted(images), 0)

    def score(self, encoder: Encoder, lang: str, data: ProbeTask, images: Optional[ImageFeatures]) -> Result:
        test, train = data.test, data.train
        row_of = {name: row for row, name in enumerate(images.names)}
        features = images.features[[row_of[f"{TEST}:{name}"] for name in test.images]]
        outcomes = []
        for drawn in tqdm(self._draws(data), desc="draws", disable=self.options.seeds < 2):
            usable = np.array([row for row in drawn if f"{TRAIN}:{train.images[row]}" in row_of], np.int64)
            labels = train.labels[usable]
            gone = np.flatnonzero(np.bincount(labels, minlength=len(train.keys)) == 0)
            if len(gone):
                raise UserError(f"{train.path}: no drawn image of class {train.keys[gone[0]]!r} can be used")
            own = images.features[[row_of[f"{TRAIN}:{train.images[row]}"] for row in usable]]
            probe = fit_probe(own, labels, len(train.keys))
            outcomes.append(Outcome(len(usable), probe, probe.ranks(features, test.labels)))
        unfinished = sum(not outcome.probe.converged for outcome in outcomes)
        if unfinished:
            logger.warning("in %d of %d draws a fit was stopped before it converged", unfinished, len(outcomes))
        each = [accuracies(outcome.ranks, test.labels, len(test.keys)) for outcome in outcomes]
        scores = {metric: float(np.mean([one[metric] for one in each])) for metric in self.metrics}
        table = partial(_write_seeds, outcomes=outcomes, scores=each, metrics=self.metrics)
        return Result(
            scores, self._signature(encoder, lang, data), self._ranks(test, outcomes), files={"seeds.csv": table}
        )

    def _ranks(self, test: LabelledImages, outcomes: Sequence[Outcome]) -> Optional[QueryRanks]:
        """Of one draw; a mean of several has no rank of a query."""
        if len(outcomes) > 1:
            return None
        ranks = outcomes[0].ranks
        return QueryRanks(checksums(test.images), np.arange(len(test)), ranks, ranks)

    def _signature(self, encoder: Encoder, lang: str, data: ProbeTask) -> str:
        options, own = self.options, encoder.network.preprocess
        keys = {
            **options.signature_keys(len(data.test.keys)),
            "train": images_fingerprint(data.train),
            "shots": options.shots or "all",
            "seeds": options.seeds,
            TRANSFORM: None if options.image_features or own is None else str(own),
        }
        return str(
            Signature(
                data=self.fingerprint(data),
                split=options.split,
                lang=lang,
                images=len(data.test),
                texts=None,
                tok=None,
                maxlen=None,
                precision="fp32",
                own={key: value for key, value in keys.items() if value is not None},
            )
        )


def _of(names: Set[str], part: str) -> Set[str]:
    return {name.partition(":")[2] for name in names if name.startswith(f"{part}:")}


def _write_seeds(path, outcomes: Sequence[Outcome], scores: Sequence[Dict[str, float]], metrics: Sequence[str]) -> None:
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["seed", "images", "C", "validation", *metrics])
    for seed, (outcome, found) in enumerate(zip(outcomes, scores), 1):
        chosen = "" if outcome.probe.validation is None else f"{outcome.probe.validation:.4f}"
        row = [seed, outcome.images, f"{outcome.probe.strength:g}", chosen]
        table.writerow([*row, *(f"{found[metric]:.4f}" for metric in metrics)])
    write_text(path, out.getvalue())
