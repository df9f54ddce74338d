"""Continual language learning: one language of the sequence (CLL-CLIP and TEIR, Yang et al. 2024)."""

from dataclasses import dataclass, field
from typing import List

import torch
from fairseq.dataclass import ChoiceEnum
from fairseq.tasks import register_task
from omegaconf import MISSING

from mlvl_fairseq.continual.language_state import LanguageState
from mlvl_fairseq.continual.row_scales import row_scale
from mlvl_fairseq.data.corpus import TEACHER_FEATURES, Corpus
from mlvl_fairseq.data.corpus.binarize import count_tokens
from mlvl_fairseq.data.tokenizer import clip_vocabulary
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.models.clip import GrowthOptions
from mlvl_fairseq.optim.row_adamw import RowScales, has_row_scales, set_row_scales
from mlvl_fairseq.tasks._caption_task import CaptionTask, CaptionTaskConfig, split_languages


@dataclass
class CllRetrievalConfig(CaptionTaskConfig):
    lang: str = field(default=MISSING, metadata={"help": "the language to learn now"})
    learned: str = field(
        default="",
        metadata={
            "help": "languages learned before, in order, e.g. en,de; give their checkpoint as --finetune-from-model"
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
    grad_scale_type: str = field(
        default="current_reciprocal", metadata={"help": "row scale of the gradient: see docs/methods.md"}
    )
    weight_decay_scale_type: str = field(default="current", metadata={"help": "row scale of the weight decay"})
    row_scale_on: ChoiceEnum(["gradient", "update"]) = field(
        default="gradient",
        metadata={
            "help": "gradient: scale before Adam's moments, as published (Adam's normalisation undoes most of it); "
            "update: scale the step after Adam's normalisation"
        },
    )


@register_task("cll_retrieval", dataclass=CllRetrievalConfig)
class CllRetrievalTask(CaptionTask):
    """Learn one language: grow the token embedding, distil from the teacher's cached features, guard what is known.

    The model's state carries the sequence: its position, token frequencies and vocabulary go from checkpoint to
    checkpoint, and a checkpoint that does not fit is refused.
    """

    default_freeze = r"^text\.(?!token_embedding\.)"

    def __init__(self, cfg: CllRetrievalConfig, corpus: Corpus, languages: List[str]):
        super().__init__(cfg, corpus, languages)
        self.position = len(languages) - 1  # languages learned before
        self.state.merge_state_dict({"languages": languages})

    @classmethod
    def setup_task(cls, cfg: CllRetrievalConfig, **kwargs):
        learned = split_languages(cfg.learned)
        if cfg.lang in learned:
            raise UserError(f"--lang {cfg.lang} is among the learned languages ({cfg.learned})")
        return cls(cfg, Corpus(cfg.data), [*learned, cfg.lang])

    @property
    def growth(self) -> GrowthOptions:
        return GrowthOptions(self.cfg.new_row_mean, self.cfg.new_row_std, self.seed_for(self.position))

    def build_model(self, cfg, from_checkpoint=False):
        model = super().build_model(cfg, from_checkpoint)
        state = LanguageState(
            self.dictionary.symbols, len(clip_vocabulary()), self.position, self.count_current_tokens()
        )
        model.begin_language(state, self.growth)
        self.embed_dim = cfg.embed_dim
        self.scales = RowScales()
        if self.cfg.regularize != "none":
            set_row_scales(model.text.token_embedding.weight, self.scales)
        return model

    def count_current_tokens(self) -> torch.Tensor:
        """int [V]: 1 for tokens of this language's training captions (not truncated; BOS and EOS excluded)."""
        counts = count_tokens(self.corpus, self.vocabulary_languages, self.cfg.lang, len(self.dictionary))
        counts[[self.dictionary.bos(), self.dictionary.eos()]] = 0
        return torch.from_numpy(counts > 0).int()

    def begin_epoch(self, epoch, model) -> None:
        """Before the first update of a run: is the right checkpoint loaded? Then TEIR's scales can be computed."""
        if self.position and not model.has_learned:
            raise UserError(
                f"'{self.cfg.lang}' comes after {self.cfg.learned}: give their checkpoint as --finetune-from-model"
            )
        kind = str(self.cfg.regularize)
        if "grad" in kind:
            scale = self._scale(model, self.cfg.grad_scale_type)
            setattr(self.scales, str(self.cfg.row_scale_on), scale)
        if "decay" in kind:
            self.scales.decay = self._scale(model, self.cfg.weight_decay_scale_type)

    def optimizer_step(self, optimizer, model, update_num) -> None:
        """Raises UserError: TEIR was asked for, and this optimizer would silently train without its row scales."""
        if str(self.cfg.regularize) != "none" and not has_row_scales(optimizer.optimizer):
            raise UserError(
                f"--regularize {self.cfg.regularize} needs --optimizer row_adamw, and with --fp16 also "
                "--fp16-no-flatten-grads"
            )
        super().optimizer_step(optimizer, model, update_num)

    def _scale(self, model, kind: str) -> torch.Tensor:
        state = model.language_state
        special = (self.dictionary.bos(), self.dictionary.eos())
        return row_scale(kind, state.token_frequencies.float().cpu(), state.current_tokens.cpu() > 0, special)

    def load_dataset(self, split, **kwargs):
        if split in self.datasets:
            return
        for kind in TEACHER_FEATURES:
            if not self.corpus.has_features(split, kind):
                raise UserError(
                    f"{self.corpus.folder} has no teacher features of the {split} split: run mlvl-prepare "
                    f"{self.corpus.folder} --teacher PATH"
                )
        self.corpus.require_one_teacher()
        images = self.corpus.features(split, "image")
        if images.shape[1] != self.embed_dim:
            raise UserError(
                f"the teacher's features have {images.shape[1]} dimensions, the model's {self.embed_dim}: choose "
                "another --arch or --embed-dim"
            )
        if split == "valid":
            self.check_validation_images(len(images))
        english = self.corpus.features(split, "text") if self._has_english(split) else None
        self.datasets[split] = self.load_captions(split, [self.cfg.lang], images=images, english=english)

    def _has_english(self, split: str) -> bool:
        """Does every caption have an English sentence? Raises UserError: not so in training."""
        missing = int((self.corpus.rows(split, self.cfg.lang)[:, 1] < 0).sum())
        if missing and split == "train":
            raise UserError(
                f"{missing} training captions of '{self.cfg.lang}' have no English sentence to learn from: give "
                f"triplets, or {self.corpus.source_lang} captions of the same images, and prepare the corpus anew"
            )
        return not missing
