"""What the tasks on a corpus folder share: dictionary, datasets, exact restarts, and recall on the validation set."""

from dataclasses import dataclass, field
from functools import partial
from typing import List, Optional, Sequence

import numpy as np
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from fairseq.tasks import FairseqTask
from omegaconf import II, MISSING, OmegaConf
from torch.utils.data import ConcatDataset

from mlvl_fairseq.data.caption_dataset import CaptionDataset
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.corpus.binarize import binarized_folder
from mlvl_fairseq.data.corpus.tokens import open_tokens
from mlvl_fairseq.data.corpus.vocabularies import vocabulary_folder
from mlvl_fairseq.data.dictionary import ClipDictionary
from mlvl_fairseq.data.tokenizer import Vocabulary, clip_vocabulary
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.evaluation.retrieval import METRICS
from mlvl_fairseq.tasks._validation import RecallCollector

MIN_VALIDATION_IMAGES = 10


@dataclass
class CaptionTaskConfig(FairseqDataclass):
    data: str = field(default=MISSING, metadata={"help": "corpus folder written by mlvl-prepare"})
    max_length: int = field(
        default=77, metadata={"help": "cut captions to this many tokens, BOS and EOS included; EOS is kept"}
    )
    seed: int = II("common.seed")


class CaptionTask(FairseqTask):
    """Base of the retrieval tasks. A subclass says which images, languages and vocabulary it trains on."""

    trains_image_tower = False
    default_freeze = ""
    prepare_option = "--order"

    def __init__(self, cfg: CaptionTaskConfig, corpus: Corpus, vocabulary: List[str]):
        super().__init__(cfg)
        self.corpus, self.vocabulary = corpus, vocabulary
        self.dictionary = self._load_vocabulary()
        # fairseq builds batches once, seeded by the epoch it starts in; only rebuilt ones are the same after a restart.
        if OmegaConf.is_config(cfg):
            OmegaConf.set_struct(cfg, False)
        cfg.rebuild_batches = True
        self.recall: Optional[RecallCollector] = None

    @classmethod
    def load_dictionary(cls, filename) -> ClipDictionary:
        """Read ``dict.txt``; this is also what ``fairseq-preprocess --task ...`` uses."""
        return ClipDictionary.load(filename)

    def _load_vocabulary(self) -> ClipDictionary:
        """The dictionary; the vocabulary behind it goes into the checkpoints, so that they can be used on their own.

        Raises:
            UserError: it has not been prepared.
        """
        folder = vocabulary_folder(self.corpus, self.vocabulary)
        if not (folder / "dict.txt").exists():
            raise UserError(f"no vocabulary in {folder}; {self._how_to_prepare()}")
        tokens = Vocabulary.load(folder)
        self.state.merge_state_dict({"vocabulary": tokens.additions(clip_vocabulary())})
        dictionary = self.load_dictionary(str(folder / "dict.txt"))
        if dictionary.symbols != tokens.tokens:
            raise DataError("differs from vocab.json beside it; run mlvl-prepare again", folder / "dict.txt")
        return dictionary

    def _how_to_prepare(self) -> str:
        languages = ",".join(self.vocabulary)
        return f"make it with: mlvl-prepare {self.corpus.folder} {self.prepare_option} {languages}"

    @property
    def source_dictionary(self) -> ClipDictionary:
        return self.dictionary

    @property
    def target_dictionary(self) -> ClipDictionary:
        return self.dictionary

    @property
    def image_feature_dim(self) -> int:
        """Dimension of the image features the corpus was given; 0: it has pictures only."""
        if not self.corpus.has_features("train", "inputs"):
            return 0
        return self.corpus.features("train", "inputs").shape[1]

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
            self._load_tokens(split, lang, self.vocabulary if vocabulary is None else vocabulary) for lang in langs
        ]
        options.setdefault("shuffle", split == "train")
        return CaptionDataset(
            ConcatDataset(tokens),
            np.concatenate([part.sizes for part in tokens]),
            np.concatenate([self.corpus.rows(split, lang) for lang in langs]),
            self.dictionary.bos(),
            self.dictionary.eos(),
            max_length=self.cfg.max_length,
            **options,
        )

    def _load_tokens(self, split: str, lang: str, vocabulary: Sequence[str]):
        self.corpus.require(split, lang)
        prefix = binarized_folder(self.corpus, vocabulary, lang) / split
        if not prefix.with_suffix(".bin").exists():
            raise UserError(f"no binarized captions {prefix}.bin; {self._how_to_prepare()}")
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
        self.recall = RecallCollector()

    def valid_step(self, sample, model, criterion):
        model.eval()
        features = criterion.features(model, sample)
        self.recall.add(sample["id"], sample["image_ids"], features)
        return criterion.losses(model, features, sample)

    def reduce_metrics(self, logging_outputs, criterion) -> None:
        """Log losses; while validating also recalls, computed once the last batch is through."""
        super().reduce_metrics(logging_outputs, criterion)
        if not criterion.training:
            self.recall.count(logging_outputs)
            for name in METRICS:
                metrics.log_derived(name, partial(self.recall.score, name))

    def seed_for(self, purpose: int) -> int:
        """A seed of its own for every purpose within a run."""
        return int(np.random.SeedSequence([self.cfg.seed, purpose]).generate_state(1)[0])


def split_languages(text: str) -> List[str]:
    """``"en, de"`` -> ``["en", "de"]``."""
    return [lang.strip() for lang in text.split(",") if lang.strip()]
