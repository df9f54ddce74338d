"""Training on several data sets, batch by batch in turn: a part of cll_retrieval (Yang et al. 2024 train on two)."""

import logging
from dataclasses import dataclass, field
from typing import Dict, Optional, Sequence

import numpy as np
from fairseq.dataclass import ChoiceEnum

from mlvl_fairseq.data.corpus.data_sets import data_set_members, data_set_names, data_set_of_images
from mlvl_fairseq.data.sampling import alternating_steps
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.optim.row_adamw import RowAdamW
from mlvl_fairseq.options import Part
from mlvl_fairseq.tasks._validation import RecallScores

logger = logging.getLogger(__name__)

DATA_SETS_SEED = 40_000  # the number of the one that draws from several data sets


@dataclass
class DataSetOptions:
    data_sets: str = field(
        default="",
        metadata={
            "help": "train on several data sets, e.g. coco,cc3m: folders that image names of the corpus begin with. "
            "Batches come from one after the other in turn, as many from each as the smallest has; validation ranks "
            "each apart. Default: all captions are mixed"
        },
    )
    data_set_moments: ChoiceEnum(["shared", "own"]) = field(
        default="shared",
        metadata={
            "help": "with --data-sets: one state of the optimizer, or as published one a data set, all acting on "
            "the same weights (row_adamw only)"
        },
    )


DATA_SETS = Part(DataSetOptions, lambda cfg: bool(cfg.data_sets), "--data-sets")


class TakesDataSetsInTurn:
    """Goes in front of a :class:`CaptionTask` whose options have :class:`DataSetOptions`.

    Attributes:
        data_sets: names of those that are trained on; empty: all captions are mixed.

    Raises:
        UserError: they are not named as they have to be.
    """

    _moments: Optional[int] = None  # data set of the update that is being made

    def __init__(self, cfg, *args):
        self.data_sets = data_set_names(cfg.data_sets)
        super().__init__(cfg, *args)
        if self.has_own_moments and not self.data_sets:
            raise UserError("--data-set-moments own goes with --data-sets")

    @property
    def has_own_moments(self) -> bool:
        """Does each data set have a state of the optimizer?"""
        return str(self.cfg.data_set_moments) == "own"

    def data_set_options(self, split: str) -> Dict:
        """What :class:`DataSetsCaptionDataset` takes; without data sets nothing. One without validation captions is not
        validated on."""
        if not self.data_sets:
            return {}
        members = self.check_data_sets(split, self.current)
        for name, own in members.items():
            logger.info("%s: data set %s has %d captions", split, name, len(own))
        of_image = data_set_of_images(self.corpus, split, list(members))
        return {"data_set_of_image": of_image, "seed": self.seed_for(DATA_SETS_SEED)}

    def check_data_sets(self, split: str, langs: Sequence[str]) -> Dict[str, np.ndarray]:
        """The captions of each data set among those of `langs` that take part. In validation a data set without any is
        left out.

        Raises:
            UserError: a caption is of none of the data sets, or one has no training captions, or too few images to
                validate.
        """
        usable = {lang: self.usable(split, lang) for lang in langs}
        members = data_set_members(self.corpus, split, usable, self.data_sets)
        if split == "valid":
            images = np.concatenate([self.corpus.rows(split, lang)[rows, 0] for lang, rows in usable.items()])
            members = {name: own for name, own in members.items() if len(own)}
            for own in members.values():
                self.check_validation_images(len(np.unique(images[own])))
        return members

    def check_all_data_sets(self, cfg, splits: Sequence[str]) -> None:
        """Check the languages of a sequence, which are learned one after the other, or the last ones together.

        Raises:
            UserError: one could not be learned of these data sets, or not in such batches.
        """
        if not self.data_sets:
            return
        check_batches(cfg.dataset.max_tokens, cfg.dataset.batch_size)
        check_moments(not self.has_own_moments or max(cfg.optimization.update_freq) == 1)
        for langs in [*([lang] for lang in self.learned), self.current]:
            for split in splits:
                members = self.check_data_sets(split, langs)
                if split == "train":
                    alternating_steps([len(own) for own in members.values()], cfg.dataset.batch_size)

    def new_recall(self) -> RecallScores:
        if not self.data_sets:
            return super().new_recall()
        return RecallScores(list(self.check_data_sets("valid", self.current)), "data_set_ids")

    def get_batch_iterator(self, dataset, max_tokens=None, max_sentences=None, num_shards=1, **kwargs):
        """Raises UserError: batches of several data sets need a number of captions, which the smallest set has."""
        if self.data_sets and dataset.shuffle:
            check_batches(max_tokens, max_sentences)
            steps = alternating_steps([len(own) for own in dataset.members], max_sentences * num_shards)
            logger.info("an epoch has %d batches of each of %s", steps, ", ".join(self.data_sets))
        return super().get_batch_iterator(dataset, max_tokens, max_sentences, num_shards=num_shards, **kwargs)

    # Moments of their own.
    def train_step(self, sample, *args, **options):
        """Raises UserError: the batches of an update are of several data sets."""
        if self.has_own_moments:
            of = sample["data_set"]
            check_moments(self._moments in (None, of))
            self._moments = of
        return super().train_step(sample, *args, **options)

    def optimizer_step(self, optimizer, *args) -> None:
        if self._moments is not None:
            optimizer.optimizer.moments, self._moments = self._moments, None
        super().optimizer_step(optimizer, *args)

    def check_optimizer(self, optimizer) -> None:
        """Raises UserError: this optimizer has one state only."""
        if self.has_own_moments and not isinstance(optimizer.optimizer, RowAdamW):
            raise UserError("--data-set-moments own needs --optimizer row_adamw")


def check_batches(max_tokens: Optional[int], max_sentences: Optional[int]) -> None:
    """Raises UserError: batches of several data sets have no number of captions."""
    if not max_sentences or max_tokens:
        raise UserError("--data-sets needs --batch-size, and no --max-tokens: each batch is of one data set")


def check_moments(is_of_one_data_set: bool) -> None:
    """Raises UserError: an update is not."""
    if not is_of_one_data_set:
        raise UserError("--data-set-moments own needs updates of one data set each: leave --update-freq at 1")
