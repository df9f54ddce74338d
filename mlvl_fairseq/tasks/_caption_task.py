"""What the tasks on a corpus folder share: datasets, exact restarts, and recall on the validation set."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import List, Optional, Sequence, Type

import numpy as np
from fairseq.data import Dictionary
from fairseq.dataclass import FairseqDataclass
from omegaconf import II, MISSING
from torch.utils.data import ConcatDataset

from mlvl_fairseq.data.caption_dataset import CaptionDataset
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.corpus.binarize import binarized_folder
from mlvl_fairseq.data.corpus.tokens import open_tokens
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.tasks._batches import build_batches_anew
from mlvl_fairseq.tasks._contract import ContractTask
from mlvl_fairseq.tasks._validation import RecallCollector

MIN_VALIDATION_IMAGES = 10


@dataclass
class CaptionTaskConfig(FairseqDataclass):
    data: str = field(default=MISSING, metadata={"help": "corpus folder written by mlvl-prepare"})
    max_length: int = field(
        default=77, metadata={"help": "cut captions to this many tokens, BOS and EOS included; EOS is kept"}
    )
    seed: int = II("common.seed")


class CaptionTask(ContractTask, ABC):
    """Base of the retrieval tasks. A subclass says which images and languages it trains on, and brings a vocabulary.

    Args:
        cfg: options. corpus: what they are about.
        vocabulary: its name, a list as :func:`binarized_folder` takes it. dictionary: its ids.
    """

    dataset_class: Type[CaptionDataset] = CaptionDataset

    def __init__(self, cfg: CaptionTaskConfig, corpus: Corpus, vocabulary: List[str], dictionary: Dictionary):
        super().__init__(cfg)
        self.corpus, self.vocabulary, self.dictionary = corpus, vocabulary, dictionary
        build_batches_anew(cfg)
        self.recall: Optional[RecallCollector] = None

    @abstractmethod
    def how_to_prepare(self) -> str:
        """The command that makes vocabulary and binarized captions, for messages."""

    @property
    def source_dictionary(self) -> Dictionary:
        return self.dictionary

    @property
    def target_dictionary(self) -> Dictionary:
        return self.dictionary

    def max_positions(self) -> int:
        return self.cfg.max_length

    def load_captions(
        self, split: str, langs: List[str], vocabulary: Optional[Sequence[str]] = None, **options
    ) -> CaptionDataset:
        """The binarized captions of a split in one or several languages.

        Args:
            split, langs: which captions.
            vocabulary: the vocabulary they were cut with; default: the task's.
            options: see :class:`CaptionDataset`.

        Raises:
            UserError: they have not been prepared. DataError: caption and row counts differ.
        """
        tokens = [
            self.load_tokens(split, lang, self.vocabulary if vocabulary is None else vocabulary) for lang in langs
        ]
        options.setdefault("shuffle", split == "train")
        return self.dataset_class(
            ConcatDataset(tokens),
            np.concatenate([part.sizes for part in tokens]),
            np.concatenate([self.corpus.rows(split, lang) for lang in langs]),
            self.dictionary.bos(),
            self.dictionary.eos(),
            max_length=self.cfg.max_length,
            pad=self.dictionary.pad(),
            **options,
        )

    def load_tokens(self, split: str, lang: str, vocabulary: Sequence[str]):
        self.corpus.require(split, lang)
        prefix = binarized_folder(self.corpus, vocabulary, lang) / split
        if not prefix.with_suffix(".bin").exists():
            raise UserError(f"no binarized captions {prefix}.bin; {self.how_to_prepare()}")
        tokens = open_tokens(prefix)
        if len(tokens) != len(self.corpus.rows(split, lang)):
            raise DataError(f"{len(tokens)} captions do not fit the corpus's rows; run mlvl-prepare again", prefix)
        return tokens

    def get_batch_iterator(self, dataset, max_tokens=None, max_sentences=None, num_shards=1, **kwargs):
        """fairseq's iterator over full batches in an order that is drawn anew every epoch.

        Batches are not shuffled a second time: consecutive ones go to the ranks, so that N ranks see the captions
        that one process with N times the batch would.
        """
        if dataset.shuffle and max_sentences:
            dataset.keep_multiple_of = max_sentences * num_shards
        iterator = super().get_batch_iterator(dataset, max_tokens, max_sentences, num_shards=num_shards, **kwargs)
        iterator.disable_shuffling = True
        return iterator

    # Validation: recall over the whole set, whatever the batches.
    def check_validation_images(self, images: int) -> None:
        """Raises UserError: too few images for recall at 10 to mean anything."""
        if images < MIN_VALIDATION_IMAGES:
            raise UserError(
                f"the validation set has {images} images, recall at 10 needs at least {MIN_VALIDATION_IMAGES}: give "
                "more, or train with --disable-validation"
            )

    def begin_valid_epoch(self, epoch, model) -> None:
        self.recall = self.new_recall()

    def new_recall(self) -> RecallCollector:
        return RecallCollector()

    def valid_step(self, sample, model, criterion):
        model.eval()
        features = criterion.features(model, sample)
        self.recall.add(sample, features)
        return criterion.losses(model, features, sample)

    def reduce_metrics(self, logging_outputs, criterion) -> None:
        """Log losses; while validating also recalls, computed once the last batch is through."""
        super().reduce_metrics(logging_outputs, criterion)
        if not criterion.training:
            self.recall.log(logging_outputs)

    def seed_for(self, purpose: int) -> int:
        """A seed of its own for every purpose within a run."""
        return int(np.random.SeedSequence([self.cfg.seed, purpose]).generate_state(1)[0])


def split_languages(text: str) -> List[str]:
    """``"en, de"`` -> ``["en", "de"]``."""
    return [lang.strip() for lang in text.split(",") if lang.strip()]
