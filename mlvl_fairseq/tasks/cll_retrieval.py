"""Continual language learning: one language of the sequence (CLL-CLIP and TEIR, Yang et al. 2024)."""

import logging
from dataclasses import dataclass, field
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from fairseq import utils as fairseq_utils
from fairseq.dataclass import ChoiceEnum
from fairseq.tasks import register_task
from omegaconf import MISSING
from tqdm import tqdm

from mlvl_fairseq.continual.learner import LanguageState
from mlvl_fairseq.continual.plugins import active_plugins, plugin_options, plugin_parts
from mlvl_fairseq.continual.preconditions import require_english
from mlvl_fairseq.continual.row_scales import ROW_SCALE_PARTS, row_scale
from mlvl_fairseq.data.corpus import TEACHER_FEATURES, Corpus
from mlvl_fairseq.data.corpus.binarize import count_english_tokens, count_tokens
from mlvl_fairseq.data.corpus.vocabularies import (
    CorpusVocabulary,
    GivenVocabulary,
    GrownVocabulary,
    UnionVocabulary,
    first_vocabulary,
)
from mlvl_fairseq.data.text import ClipTokenizer
from mlvl_fairseq.distributed import rank, world_size
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.expandable_embedding import GrowthOptions
from mlvl_fairseq.optim.row_adamw import RowScales, has_row_scales, set_row_scales
from mlvl_fairseq.options import Part, with_options, without_effect
from mlvl_fairseq.tasks._base import CaptionTask, CaptionTaskConfig, split_languages, without_rows
from mlvl_fairseq.tasks._data_sets import DATA_SETS, TakesDataSetsInTurn

logger = logging.getLogger(__name__)


@dataclass
class CllRetrievalBaseConfig(CaptionTaskConfig):
    lang: str = field(
        default=MISSING, metadata={"help": "the language to learn now; en,de,fr: several at once (joint training)"}
    )
    learned: str = field(
        default="",
        metadata={
            "help": "languages learned before, in order, e.g. en,de; give their checkpoint as --finetune-from-model"
        },
    )
    oracle_languages: str = field(
        default="",
        metadata={
            "help": "train with one vocabulary of all these languages from the first on, instead of one that grows "
            "(CLL-CLIP's oracle vocabulary)"
        },
    )
    new_row_mean: float = field(default=0.0, metadata={"help": "mean of new token embeddings"})
    new_row_std: float = field(
        default=0.02,
        metadata={
            "help": "standard deviation of new token embeddings; -1: mean and deviation of all present ones (TEIR)"
        },
    )
    regularize: ChoiceEnum(["none", "grad", "decay", "grad_decay"]) = field(
        default="none", metadata={"help": "what TEIR's row scales act on: the gradient (or the step), the weight decay"}
    )
    update_all_rows: bool = field(
        default=False,
        metadata={
            "help": "keep gradient and moments of all token embeddings, not only of the language's own tokens: slower, "
            "with the same result; needed by optimizers other than row_adamw"
        },
    )
    segmentation: ChoiceEnum(["growing", "frozen"]) = field(
        default="growing",
        metadata={
            "help": "how captions of earlier languages are cut when they are replayed or scored: growing, with the "
            "vocabulary as it is now, as published; frozen, as it was when their language was learned (the "
            "language has to be known)"
        },
    )


OWN_PARTS = (DATA_SETS, *ROW_SCALE_PARTS)
CllRetrievalConfig = with_options(CllRetrievalBaseConfig, [*(part.options for part in OWN_PARTS), *plugin_options()])


@register_task("cll_retrieval", dataclass=CllRetrievalConfig)
class CllRetrievalTask(TakesDataSetsInTurn, CaptionTask):
    """Learn one language: grow the token embedding, distil from the teacher's cached features, guard what is known.

    The model's state carries the sequence: its position, token frequencies and vocabulary go from checkpoint to
    checkpoint, and a checkpoint that does not fit is refused. What a method remembers is in there, too.

    Attributes:
        learned, current: languages learned before, and now.
        model: the network that is trained, as :meth:`build_model` made it: what every hook of a plugin gets. What
            fairseq hands to the task may be wrapped for data-parallel training; a forward pass needs the wrapper,
            names of parameters do not fit it.
        plugins: the methods at work, by name.
    """

    default_freeze = r"^text\.(?!token_embedding\.)"

    def __init__(self, cfg: CllRetrievalConfig, corpus: Corpus, learned: List[str], current: List[str]):
        self.learned, self.current = learned, current
        self.languages = [*learned, *current]
        self.oracle = split_languages(cfg.oracle_languages)
        self.corpus = corpus
        super().__init__(cfg, self.vocabulary_after(self.languages), current)
        self.position = len(learned)
        self.state.merge_state_dict({"languages": self.languages})
        if self.freezes_segmentation:
            self.state.merge_state_dict({"segmentation": self._sizes_of_vocabularies()})
        self._has_begun = False

    @classmethod
    def setup_task(cls, cfg: CllRetrievalConfig, unprepared: bool = False, **kwargs):
        """`unprepared`: to find out whether everything fits, before vocabularies are made: see `UnpreparedTask`."""
        learned, current = split_languages(cfg.learned), split_languages(cfg.lang)
        for lang in current:
            if lang in learned:
                raise UserError(f"--lang {lang} is among the learned languages ({cfg.learned})")
        corpus = Corpus(cfg.data)
        for lang in [*learned, *current]:
            corpus.require("train", lang)
        return (UnpreparedTask if unprepared else cls)(cfg, corpus, learned, current)

    @staticmethod
    def parts() -> List[Part]:
        """What a run may be without: methods, row scales, ...; a model has more of them."""
        return [*OWN_PARTS, *plugin_parts()]

    def vocabulary_after(self, languages: List[str]) -> CorpusVocabulary:
        """What captions are cut with once `languages` are learned."""
        return UnionVocabulary(self.corpus, self.oracle) if self.oracle else GrownVocabulary(self.corpus, languages)

    @property
    def freezes_segmentation(self) -> bool:
        return str(self.cfg.segmentation) == "frozen"

    def _sizes_of_vocabularies(self) -> Dict[str, Tuple[int, int]]:
        """Tokens and merges that there were when each language was learned. Raises UserError: they do not grow."""
        if self.oracle:
            raise UserError("--segmentation frozen: the oracle vocabulary does not grow; leave one of both out")
        before = {lang: self.vocabulary_after(self.languages[: place + 1]) for place, lang in enumerate(self.learned)}
        vocabularies = {**before, **dict.fromkeys(self.current, self.vocabulary)}
        grown = {lang: own.tokenizer.vocabulary for lang, own in vocabularies.items()}
        return {lang: (len(own.tokens), len(own.merges)) for lang, own in grown.items()}

    @property
    def growth(self) -> GrowthOptions:
        return GrowthOptions(self.cfg.new_row_mean, self.cfg.new_row_std, self.seed_for(self.position))

    def build_criterion(self, cfg, from_checkpoint=False):
        self.criterion = super().build_criterion(cfg, from_checkpoint)
        return self.criterion

    def build_model(self, cfg, from_checkpoint=False):
        self.model = model = super().build_model(cfg, from_checkpoint)
        self.embed_dim = cfg.embed_dim
        self.plugins = active_plugins(self.cfg, self)
        unread = without_effect(self.parts(), self.cfg)
        if unread and not self.rank:
            logger.warning(unread)
        counts, english = self.count_current_tokens(), self.count_english_tokens()
        known = len(first_vocabulary(self.corpus))
        state = LanguageState(self.dictionary.symbols, known, self.position, counts, english)
        model.begin_language(state, self.growth, self.plugins)
        self._prepare_rows(model.token_embedding, counts)
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        self.state.merge_state_dict({"trainable_parameters": trained})
        return model

    def _prepare_rows(self, embedding, counts: np.ndarray) -> None:
        """Let only the language's own rows train where nothing else moves, and give rows their scales."""
        used = counts.sum(axis=0) > 0
        used[[self.dictionary.bos(), self.dictionary.eos()]] = True
        self.scales = RowScales()
        if not (self.cfg.update_all_rows or any(plugin.needs_all_rows for plugin in self.plugins.values())):
            embedding.train_rows(torch.from_numpy(used.nonzero()[0]))
            self.scales.decay_idle = embedding.decay_idle
        if self.needs_row_adamw(embedding):
            set_row_scales(embedding.weight, self.scales)

    def needs_row_adamw(self, embedding) -> bool:
        return embedding.weight.requires_grad and (str(self.cfg.regularize) != "none" or embedding.rows is not None)

    def count_current_tokens(self) -> np.ndarray:
        """int [current languages, V]: token counts of their training captions (not truncated; BOS and EOS are 0)."""
        counts = np.stack(
            [
                count_tokens(self.vocabulary, lang, len(self.dictionary), self.usable("train", lang))
                for lang in self.current
            ]
        )
        counts[:, [self.dictionary.bos(), self.dictionary.eos()]] = 0
        return counts

    def count_english_tokens(self) -> np.ndarray:
        """int [CLIP's vocabulary], or empty: only the first language reads it."""
        return np.zeros(0, np.int64) if self.position else count_english_tokens(self.corpus)

    # One language from begin to end.
    def begin_epoch(self, epoch, model) -> None:
        """Before the first update of a run: is the right checkpoint loaded? Then what depends on it can be made."""
        self.epoch, model = epoch, self.model
        if self._has_begun:
            return
        self._has_begun = True
        if self.position and not model.has_learned:
            raise UserError(
                f"'{self.cfg.lang}' comes after {self.cfg.learned}: give their checkpoint as --finetune-from-model"
            )
        self.plugins.to(model.token_embedding.weight.device)
        for plugin in self.plugins.values():
            if model.is_fresh:
                plugin.begin_language(self, model)
            plugin.begin_run(self, model)
        self._set_scales(model)

    def _set_scales(self, model) -> None:
        kind = str(self.cfg.regularize)
        more = sum((plugin.current_tokens() for plugin in self.plugins.values()), torch.tensor(0))
        use, rows = model.language_state.use(more), model.token_embedding.rows
        special = (self.dictionary.bos(), self.dictionary.eos())

        def scale(name: str) -> torch.Tensor:
            values = row_scale(name, use, special)
            return values if rows is None else values[rows.cpu()]

        if "grad" in kind:
            setattr(self.scales, str(self.cfg.row_scale_on), scale(self.cfg.grad_scale_type))
        if "decay" in kind:
            self.scales.decay = scale(self.cfg.weight_decay_scale_type)

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        """A rank without a batch of its own (`ignore_grad`) takes part in what methods exchange, with no row."""
        if ignore_grad:
            sample = without_rows(sample)
        for plugin in self.plugins.values():
            sample = plugin.extend_batch(sample)
        result = super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)
        for plugin in self.plugins.values():
            plugin.after_backward(sample)
        return result

    def optimizer_step(self, optimizer, model, update_num) -> None:
        self.check_optimizer(optimizer)
        for plugin in self.plugins.values():
            plugin.before_step(self.model)
        super().optimizer_step(optimizer, model, update_num)
        for plugin in self.plugins.values():
            plugin.after_step(self.model)

    def check_optimizer(self, optimizer) -> None:
        """Raises UserError: this optimizer would silently train without row scales or the decay of idle rows."""
        super().check_optimizer(optimizer)
        if self.needs_row_adamw(self.model.token_embedding) and not has_row_scales(optimizer.optimizer):
            what = f"--regularize {self.cfg.regularize}" if str(self.cfg.regularize) != "none" else "cll_retrieval"
            hint = "" if str(self.cfg.regularize) != "none" else "; or give --update-all-rows"
            raise UserError(f"{what} needs --optimizer row_adamw, and with --fp16 also --fp16-no-flatten-grads{hint}")

    # What methods look back at.
    @property
    def rank(self) -> int:
        return rank()

    @property
    def ranks(self) -> int:
        return world_size()

    @property
    def is_first_epoch(self) -> bool:
        return self.epoch == 1

    def previous_batches(
        self, model, batch_size: int, title: str, rows: Optional[Sequence[int]] = None, shared: bool = True
    ) -> Iterator[dict]:
        """Batches of the previous language's training captions, the last one perhaps short, on the model's device.

        Args:
            model, batch_size: for what, and how many captions.
            title: of the progress bar.
            rows: which captions; default: all, in stored order.
            shared: each rank takes its share of the batches; otherwise each takes all.
        """
        dataset = self.caption_dataset("train", self.learned[-1:], vocabulary=self.vocabulary_after(self.learned))
        rows = range(len(dataset)) if rows is None else rows
        place, ranks = (self.rank, self.ranks) if shared else (0, 1)
        device = model.token_embedding.weight.device
        starts = range(place * batch_size, len(rows), ranks * batch_size)
        for start in tqdm(starts, desc=title, unit=" batches", disable=self.rank > 0):
            batch = dataset.collater(dataset.__getitems__(rows[start : start + batch_size]))
            batch["net_input"]["lang"] = self.learned[-1]
            yield fairseq_utils.apply_to_sample(lambda tensor: tensor.to(device), batch)

    def caption_count(self, lang: str) -> int:
        """Training captions of a language that take part."""
        return len(self.usable("train", lang))

    def feature_kinds(self, split: str) -> Sequence[str]:
        return TEACHER_FEATURES

    def caption_dataset(self, split: str, langs: List[str], **options):
        """Captions with the teacher's image features, and its English features where all have an English sentence."""
        english = self.corpus.features(split, "text") if self._has_english(split, langs) else None
        images = self.corpus.features(split, "image")
        return self.load_captions(split, langs, images=images, english=english, **options)

    def load_dataset(self, split, **kwargs):
        if split in self.datasets:
            return
        self.check_features(split, TEACHER_FEATURES)
        self.datasets[split] = self.caption_dataset(split, self.current, **self.data_set_options(split))

    def check_features(self, split: str, kinds: Sequence[str]) -> None:
        """Check what the teacher gave a split.

        Args:
            kinds: the features that are needed, of :data:`TEACHER_FEATURES`.

        Raises:
            UserError: they are not there, or have other dimensions than the model.
            DataError: they are damaged, of other rows, or another teacher's than those of the other splits.
        """
        for kind in kinds:
            if not self.corpus.has_features(split, kind):
                raise UserError(
                    f"{self.corpus.folder} has no teacher features of the {split} split: run mlvl-prepare "
                    f"{self.corpus.folder} --teacher PATH"
                )
        self.corpus.require_one_teacher()
        for kind in kinds:
            self.corpus_features(split, kind, self.embed_dim, "choose another --arch or --embed-dim")
        if split == "valid":
            self.check_validation_images(self.usable_images(split))

    def _has_english(self, split: str, langs: List[str]) -> bool:
        """Does every caption have an English sentence? Raises UserError: not so in training."""
        if split == "train":
            require_english(self.corpus, langs)
        return all((self.corpus.rows(split, lang)[self.usable(split, lang), 1] >= 0).all() for lang in langs)


class UnpreparedTask(CllRetrievalTask):
    """The task before captions are cut, with the vocabulary that languages add to: whatever its options ask for can be
    built and checked, nothing can be trained."""

    def vocabulary_after(self, languages: List[str]) -> CorpusVocabulary:
        return GivenVocabulary(self.corpus, ClipTokenizer(first_vocabulary(self.corpus)))

    def count_current_tokens(self) -> np.ndarray:
        return np.zeros((len(self.current), len(self.dictionary)), np.int64)

    def count_english_tokens(self) -> np.ndarray:
        return np.zeros(0, np.int64)

    def check(self, trainer, splits: Sequence[str], eval_split: str) -> None:
        """Check what is otherwise found out later: features, data sets, row scales, the optimizer and its schedule.

        Args:
            trainer: fairseq's, of this task's model. splits: of training and validation.
            eval_split: what the model is scored on at last; it needs images only.

        Raises:
            UserError: a language could not be learned like this.
        """
        for split in splits:
            self.check_features(split, TEACHER_FEATURES)
        self.check_features(eval_split, TEACHER_FEATURES[:1])
        self.check_all_data_sets(trainer.cfg, splits)
        self._set_scales(self.model)
        self.check_optimizer(trainer.optimizer)
        trainer.lr_scheduler  # built with it
