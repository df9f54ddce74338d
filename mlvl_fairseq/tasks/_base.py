"""What our tasks share: exact restarts, one dictionary, dummy batches, scores of a whole validation set; models and
criterions that say what they need, and find it; and, on a corpus folder, vocabulary, datasets and recall."""

import logging
from dataclasses import dataclass, field
from typing import ClassVar, Dict, List, Optional, Sequence, Type

import numpy as np
import torch
from fairseq.criterions import CRITERION_REGISTRY
from fairseq.data import Dictionary
from fairseq.dataclass import FairseqDataclass
from fairseq.models import ARCH_MODEL_REGISTRY, MODEL_REGISTRY
from fairseq.tasks import FairseqTask
from omegaconf import II, MISSING, OmegaConf, open_dict
from torch.utils.data import ConcatDataset, Subset

from mlvl_fairseq.codes import language_code
from mlvl_fairseq.criterions.base import Criterion, criterions_hint, task_name
from mlvl_fairseq.data.caption_dataset import CaptionDataset, DataSetsCaptionDataset
from mlvl_fairseq.data.corpus.binarize import open_tokens
from mlvl_fairseq.data.corpus.vocabularies import CorpusVocabulary
from mlvl_fairseq.data.feature_manifest import array_path
from mlvl_fairseq.data.images.corpus_images import CorpusImages
from mlvl_fairseq.data.images.policy import BadImagePolicy
from mlvl_fairseq.data.text import ClipTokenizer, Tokenizer
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.needs import has_none, missing
from mlvl_fairseq.tasks._validation import RecallScores, ValidationScores

logger = logging.getLogger(__name__)


class MlvlTask(FairseqTask):
    """Base of our tasks. A model class lists in ``needs_of_task`` the attributes of a task that it is built from, with
    a few words for each, a criterion in :attr:`Criterion.needs` what it takes.

    Args:
        cfg: options.
        dictionary: of all text; None: there is none.

    Attributes:
        validation: scores of the validation set that is being gone through; None: losses only.
    """

    def __init__(self, cfg, dictionary: Optional[Dictionary]):
        super().__init__(cfg)
        self.dictionary = dictionary
        self.validation: Optional[ValidationScores] = None
        # fairseq builds batches once, seeded by the epoch it starts in: a restart would have others.
        if OmegaConf.is_config(cfg):
            OmegaConf.set_struct(cfg, False)
        cfg.rebuild_batches = True

    @property
    def source_dictionary(self) -> Optional[Dictionary]:
        return self.dictionary

    @property
    def target_dictionary(self) -> Optional[Dictionary]:
        return self.dictionary

    def build_model(self, cfg, from_checkpoint=False):
        """Raises UserError: the model was not made for this task."""
        own, name = task_name(self), cfg._name
        absent = missing_for_model(MODEL_REGISTRY.get(name) or ARCH_MODEL_REGISTRY[name], self)
        if absent is not None and not absent:
            model = super().build_model(cfg, from_checkpoint)
            fill_in_options(cfg, model.built_with)
            return model
        reason = "it does not say what it needs" if absent is None else has_none(absent)
        fitting = [arch for arch, model in ARCH_MODEL_REGISTRY.items() if missing_for_model(model, self) == []]
        raise UserError(f"--arch {name} does not fit --task {own}: {reason}; these do: {', '.join(fitting)}")

    def has_sharded_data(self, split) -> bool:
        """Our data are one folder; fairseq takes a ``:`` in its name for a list of them."""
        return False

    def build_criterion(self, cfg, from_checkpoint=False):
        """Raises UserError: the criterion does not say what it needs, or it is not there."""
        if not issubclass(CRITERION_REGISTRY[cfg._name], Criterion):
            raise UserError(
                f"--criterion {cfg._name} does not fit --task {task_name(self)}, whose batches it does not know"
                f"{criterions_hint(self)}"
            )
        return super().build_criterion(cfg, from_checkpoint)

    @property
    def length_option(self) -> str:
        """The option that says how long the longest texts are, for messages."""
        lengths = {"--max-length": self.cfg.max_length, "--eval-max-length": getattr(self.cfg, "eval_max_length", 0)}
        return max(lengths, key=lengths.__getitem__)

    def score_names(self) -> List[str]:
        """Scores of a validation set, see :class:`ValidationScores`."""
        return []

    def check_metric(self, name: str, criterion) -> None:
        """Raises UserError: validation gives no such score to choose the best checkpoint by."""
        if criterion.logs is None:
            return
        known = ["loss", *criterion.logs, *self.score_names()]
        if name not in known:
            raise UserError(f"--best-checkpoint-metric {name}: validation has {', '.join(known)}")

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        """fairseq's step. In a batch that stands in for a missing one (its loss is multiplied by 0), ``counts`` bool
        [B] is all False, so that other ranks do not contrast with its rows."""
        if ignore_grad and "counts" not in sample:
            sample = without_rows(sample)
        return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)

    def reduce_metrics(self, logging_outputs, criterion) -> None:
        """Log losses; while validating also scores, computed once the last batch is through."""
        super().reduce_metrics(logging_outputs, criterion)
        if not criterion.training and self.validation is not None:
            self.validation.log(logging_outputs)

    def seed_for(self, purpose: int) -> int:
        """A seed of its own for every purpose within a run."""
        return int(np.random.SeedSequence([self.cfg.seed, purpose]).generate_state(1)[0])


def fill_in_options(saved, found) -> None:
    """Let the options that a checkpoint saves say what building the model found out: those that nobody gave."""
    if not OmegaConf.is_config(saved) or saved is found:
        return
    with open_dict(saved):
        for name, value in found.items():
            if value is not None and saved.get(name) is None:
                saved[name] = value


def without_rows(sample: Dict) -> Dict:
    """A batch whose rows do not count: ``counts`` bool [B], all False. A batch that is one's own has no such key."""
    return {**sample, "counts": torch.zeros_like(sample["id"], dtype=torch.bool)}


def missing_for_model(model: type, task: FairseqTask) -> Optional[List[str]]:
    """What a model class needs and the task lacks, in words; None: the class does not say what it needs."""
    needs = getattr(model, "needs_of_task", None)
    return None if needs is None else missing(needs, task)


MIN_VALIDATION_IMAGES = 10


@dataclass
class CaptionTaskConfig(FairseqDataclass):
    data: str = field(default=MISSING, metadata={"help": "corpus folder written by mlvl-prepare"})
    max_length: int = field(
        default=77, metadata={"help": "cut captions to this many tokens, BOS and EOS included; EOS is kept"}
    )
    seed: int = II("common.seed")


class CaptionTask(MlvlTask):
    """Base of the retrieval tasks. A subclass says which images and languages it trains on, and with which vocabulary.

    Args:
        cfg: options.
        vocabulary: what the captions of a corpus are cut with.
        langs: languages of training.

    Attributes:
        corpus: what training is about. trained_languages: in the order in which their captions are concatenated.
        tokenizer: captions to ids and back.
        unreadable: by split, bool [images]: pictures that cannot be read, where they have been looked at.
        trains_image_tower, default_freeze: what a model trains where its options do not say it.

    Raises:
        UserError: the vocabulary has not been prepared.
    """

    dataset_class: ClassVar[Type[CaptionDataset]] = CaptionDataset
    tokenizer_class: ClassVar[Type[Tokenizer]] = ClipTokenizer  # reads a dict.txt for fairseq-preprocess
    trains_image_tower = False
    default_freeze = ""

    def __init__(self, cfg: CaptionTaskConfig, vocabulary: CorpusVocabulary, langs: Sequence[str]):
        super().__init__(cfg, vocabulary.load_dictionary(langs))
        self.vocabulary, self.corpus, self.trained_languages = vocabulary, vocabulary.corpus, list(langs)
        self._told = set()
        self.unreadable: Dict[str, np.ndarray] = {}
        self.state.merge_state_dict(self.tokenizer.checkpoint_state())

    @classmethod
    def load_dictionary(cls, filename) -> Dictionary:
        """Read ``dict.txt``; this is also what ``fairseq-preprocess --task ...`` uses."""
        return cls.tokenizer_class.load_dictionary(filename)

    @property
    def tokenizer(self) -> Tokenizer:
        return self.vocabulary.tokenizer

    @property
    def image_feature_dim(self) -> int:
        """Dimension of the image features the corpus was given; 0: it has pictures only."""
        if not self.corpus.has_features("train", "inputs"):
            return 0
        return self.corpus.features("train", "inputs").shape[1]

    def max_positions(self) -> int:
        return self.cfg.max_length

    def corpus_features(self, split: str, kind: str, dims: int, advice: str) -> np.ndarray:
        """Features of the corpus [rows, dims]; every split is looked at before the first update.

        Args:
            dims: what the model expects; 0: any. advice: what to do about others.

        Raises:
            UserError: there are none, or they have other dimensions.
        """
        features = self.corpus.features(split, kind)
        if dims and features.shape[1] != dims:
            path = array_path(self.corpus.feature_stem(split, kind))
            raise UserError(f"{path}: these features have {features.shape[1]} dimensions, the model's {dims}: {advice}")
        return features

    def feature_kinds(self, split: str) -> Sequence[str]:
        """The stored features that training on a split reads, see :meth:`Corpus.usable`."""
        return ()

    def usable(self, split: str, lang: str) -> np.ndarray:
        """int64: the captions of a split that take part, ascending: their images and English sentences are known. How
        many do not is told once.

        Raises:
            UserError: there is none.
        """
        usable, captions = self.corpus.usable(split, lang, self.feature_kinds(split)), self.corpus.rows(split, lang)
        if split in self.unreadable:
            usable = usable[~self.unreadable[split][captions[usable, 0]]]
        if not len(usable):
            raise UserError(f"{self.corpus.folder}: no {split} caption in '{lang}' has a usable image")
        if len(usable) < len(captions) and (split, lang) not in self._told:
            self._told.add((split, lang))
            logger.warning("%s", self.corpus.left_out(split, {lang: usable}))
        return usable

    def usable_images(self, split: str) -> int:
        """How many images of a split can be used, of all languages."""
        unusable = self.unreadable.get(split, np.zeros(len(self.corpus.images(split)), bool)).copy()
        for kind in self.feature_kinds(split):
            if kind != "text":
                unusable |= self.corpus.unusable(split, kind)
        return int((~unusable).sum())

    def load_captions(
        self, split: str, langs: List[str], vocabulary: Optional[CorpusVocabulary] = None, **options
    ) -> CaptionDataset:
        """The binarized captions of a split in one or several languages that are `usable`.

        Args:
            split, langs: which captions.
            vocabulary: what they were cut with; default: the task's.
            options: see :class:`CaptionDataset`.

        Raises:
            UserError: they have not been prepared. DataError: caption and row counts differ.
        """
        tokens = [self._load_tokens(split, lang, vocabulary or self.vocabulary) for lang in langs]
        usable = [self.usable(split, lang) for lang in langs]
        options.setdefault("shuffle", split == "train")
        options.setdefault("max_length", self.cfg.max_length)
        kind = DataSetsCaptionDataset if "data_set_of_image" in options else self.dataset_class
        return kind(
            ConcatDataset([selected(part, rows) for part, rows in zip(tokens, usable)]),
            np.concatenate([part.sizes[rows] for part, rows in zip(tokens, usable)]),
            np.concatenate([self.corpus.rows(split, lang)[rows] for lang, rows in zip(langs, usable)]),
            self.dictionary.bos(),
            self.dictionary.eos(),
            pad=self.dictionary.pad(),
            ends_texts=(vocabulary or self.vocabulary).tokenizer.ends_texts,
            **options,
        )

    def _load_tokens(self, split: str, lang: str, vocabulary: CorpusVocabulary):
        self.corpus.require(split, lang)
        prefix = vocabulary.binarized(lang) / split
        if not prefix.with_suffix(".bin").exists():
            how = vocabulary.how_to_prepare([lang])
            raise UserError(f"no binarized captions {prefix}.bin; make them with: {how}")
        tokens = open_tokens(prefix, len(vocabulary.tokenizer))
        if len(tokens) != len(self.corpus.rows(split, lang)):
            raise DataError(f"{len(tokens)} captions do not fit the corpus's rows; run mlvl-prepare again", prefix)
        return tokens

    def look_at_pictures(self, split: str, images: CorpusImages) -> None:
        """With ``--bad-image skip``, find the pictures of a split that cannot be read; their captions are not
        `usable`. By default, training ends at the first one that it meets."""
        policy = BadImagePolicy.of(self.cfg)
        if policy.action == "skip" and split not in self.unreadable:
            self.unreadable[split] = images.find_unusable(policy, f"{split} pictures")

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
        self.validation = self.new_recall()

    def new_recall(self) -> "RecallScores":
        return RecallScores()

    def score_names(self) -> List[str]:
        return self.new_recall().names

    def valid_step(self, sample, model, criterion):
        model.eval()
        features = criterion.features(model, sample)
        self.validation.add(sample, features)
        return criterion.losses(model, features, sample)


def selected(items, rows: np.ndarray):
    """Those of `items` that `rows` names, ascending; `items` itself where these are all."""
    return items if len(rows) == len(items) else Subset(items, rows)


def split_languages(text: str) -> List[str]:
    """``"en, de"`` -> ``["en", "de"]``. Raises UserError: one is no code of a language."""
    return [language_code(lang.strip()) for lang in text.split(",") if lang.strip()]
