"""What makes a network learn one language after another: it grows, hands over, and remembers."""

import hashlib
import logging
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from mlvl_fairseq.checkpoints.source import fingerprint_tensor
from mlvl_fairseq.continual.plugin import hand_over_plugins
from mlvl_fairseq.continual.row_scales import RowUse
from mlvl_fairseq.distributed import rank
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.adapters import TextAdapter, TowerShape, adapter_parts, build_adapter
from mlvl_fairseq.modules.expandable_embedding import ExpandableEmbedding, apply_idle_decay
from mlvl_fairseq.modules.towers.clip_text import CLIPTextTower
from mlvl_fairseq.options import without_effect

logger = logging.getLogger(__name__)

SHARE_UNIT = 2**40
ADAPTER_SEEDS = 30_000  # the first number of those that ask for the seeds of adapters


def tokens_fingerprint(tokens: Sequence[str]) -> Tensor:
    """uint8 [32]: sha256 over token strings in the order of their ids."""
    return fingerprint_tensor(hashlib.sha256("\n".join(tokens).encode()).hexdigest())


class LanguageState(nn.Module):
    """Place in the sequence, token use and the vocabulary's fingerprint, as buffers of the model.

    Token frequencies are `f` of Yang et al. 2024, section 3.4: while language t is learned,
    ``f_v = 1 + [v in CLIP's vocabulary] + (earlier languages whose training captions use v)``. Shares are kept in units
    of :data:`SHARE_UNIT` as integers, which a module's ``half()`` leaves alone.

    Args:
        tokens: token strings of the current vocabulary, in the order of ids.
        clip_size: size of CLIP's own vocabulary; English pre-training counts as one use of these rows.
        position: languages learned before this one.
        counts: int [languages, V], how often each token occurs in the training captions of each language learned now
            (BOS, EOS: 0); one row but in joint training.
        english_counts: int [V or fewer], the same of the English sentences under CLIP's own vocabulary; what a later
            language is given is replaced in :meth:`hand_over`.
    """

    def __init__(
        self, tokens: List[str], clip_size: int, position: int, counts: np.ndarray, english_counts: np.ndarray
    ):
        super().__init__()
        self.tokens = tokens
        frequencies = torch.ones(len(tokens))
        frequencies[:clip_size] += 1
        self.register_buffer("position", torch.tensor(position))
        self.register_buffer("token_frequencies", frequencies)
        self.register_buffer("earlier_share", _shares(np.pad(english_counts, (0, len(tokens) - len(english_counts)))))
        self.register_buffer("current_tokens", torch.from_numpy((counts > 0).sum(axis=0)).to(torch.int32))
        self.register_buffer("current_share", sum(_shares(row) for row in counts))
        self.register_buffer("vocabulary_fingerprint", tokens_fingerprint(tokens))

    def use(self, more_tokens: Tensor) -> RowUse:
        """How the rows are used; `more_tokens`: int [V] or 0, languages that a method shows besides, as in replay."""
        return RowUse(
            current=(self.current_tokens.cpu() + more_tokens) > 0,
            frequencies=self.token_frequencies.float().cpu(),
            share=self.current_share.cpu().float() / SHARE_UNIT,
            earlier_share=self.earlier_share.cpu().float() / SHARE_UNIT,
        )

    def is_handover(self, state: dict, prefix: str) -> bool:
        """Does a checkpoint's state end the language before this one (True), or interrupt this one (False)?

        Raises:
            UserError: neither; the checkpoint belongs elsewhere in the sequence, or to another vocabulary.
        """
        own, other = int(self.position), int(state[prefix + "position"])
        size = len(state[prefix + "token_frequencies"])
        fits = size <= len(self.tokens) and torch.equal(
            tokens_fingerprint(self.tokens[:size]), state[prefix + "vocabulary_fingerprint"].cpu()
        )
        if other not in (own - 1, own):
            raise UserError(
                f"the checkpoint has learned {other + 1} language(s); this run needs one that has learned {own}"
            )
        if not fits or (other == own and size != len(self.tokens)):
            raise UserError(
                "the checkpoint's vocabulary does not fit this run's: the languages learned so far, their order and "
                "their BPE vocabularies must be those it was trained with"
            )
        return other == own - 1

    def hand_over(self, state: dict, prefix: str) -> None:
        """Turn the state of the language before into the one this language starts with, in place: uses add up."""
        for total, current in (("token_frequencies", "current_tokens"), ("earlier_share", "current_share")):
            learned = state[prefix + total] + state[prefix + current].to(state[prefix + total])
            grown = getattr(self, total).to(learned, copy=True)
            grown[: len(learned)] = learned
            state[prefix + total] = grown
        for name in ("position", "current_tokens", "current_share", "vocabulary_fingerprint"):
            state[prefix + name] = getattr(self, name).clone()


def _shares(counts: np.ndarray) -> Tensor:
    """int [V] counts to int64 [V] shares of their sum, in units of :data:`SHARE_UNIT`."""
    return torch.from_numpy(np.round(counts * (SHARE_UNIT / max(1, int(counts.sum())))).astype(np.int64))


class LanguageLearner:
    """Mixin in front of a network that offers a growing token embedding. Its checkpoints carry the sequence: position,
    token use and what methods remember are buffers of the model.

    Attributes:
        token_embedding_name: of the embedding that grows, within the network.
        language_state: :class:`LanguageState`; None: the model learns no sequence.
        continual: plugins of continual learning by name, only in a sequence.
        has_learned: a checkpoint of the sequence was loaded. is_fresh: it ends the language before this one.
    """

    token_embedding_name = "text.token_embedding"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.language_state: Optional[LanguageState] = None
        self.has_learned, self.is_fresh = False, False

    @property
    def token_embedding(self) -> ExpandableEmbedding:
        return self.get_submodule(self.token_embedding_name)

    def begin_language(self, state: LanguageState, growth, plugins: nn.ModuleDict) -> None:
        """Make this the model of one language of a sequence; called before a checkpoint is loaded.

        Args:
            growth: draws the rows of new tokens, see :class:`GrowthOptions`.
        """
        self.language_state, self.growth, self.continual = state, growth, plugins

    def shared_parameters(self) -> Iterator[Tuple[str, nn.Parameter]]:
        """Trained parameters that languages share: all but those in the network's ``language_modules``."""
        own = tuple(f"{name}." for name in self.language_modules)
        for name, parameter in self.named_parameters():
            if parameter.requires_grad and not name.startswith(own):
                yield name, parameter

    def upgrade_state_dict_named(self, state: Dict[str, Tensor], name: str) -> None:
        """Hand the language before over to this one: grow embedding and token counts.

        Raises:
            UserError: the checkpoint does not fit this place of the sequence.
        """
        if self.language_state is not None:
            prefix = f"{name}." if name else ""
            self._leave_out_images(state, prefix)
            self._hand_over(state, prefix)
        super().upgrade_state_dict_named(state, name)

    def _leave_out_images(self, state: Dict[str, Tensor], prefix: str) -> None:
        """A whole checkpoint (``mlvl-export checkpoint``) has an image side, a CLIP that learns texts has none."""
        absent = () if hasattr(self, "logit_scale") else (f"{prefix}vision.", f"{prefix}logit_scale")
        for name in [name for name in state if name.startswith(absent)]:
            del state[name]

    def _hand_over(self, state: Dict[str, Tensor], prefix: str) -> None:
        inner = prefix + "language_state."
        if inner + "position" not in state:
            raise UserError("the checkpoint has not learned any language; start from it with --init-from")
        self.has_learned, self.is_fresh = True, self.language_state.is_handover(state, inner)
        if self.is_fresh:
            embedding = f"{prefix}{self.token_embedding_name}."
            apply_idle_decay(state, embedding)
            rows = self.token_embedding.num_embeddings
            state[embedding + "weight"] = self.growth.grow(state[embedding + "weight"], rows)
            self.language_state.hand_over(state, inner)
            hand_over_plugins(self.continual, state, prefix + "continual.", self)
        for name in self.language_modules:
            self._hand_over_module(state, name, f"{prefix}{name}.")

    def _hand_over_module(self, state: Dict[str, Tensor], name: str, prefix: str) -> None:
        module = getattr(self, name)
        if module is not None:
            if self.is_fresh:
                module.hand_over(state, prefix)
            module.check(state, prefix)
        elif any(key.startswith(prefix) for key in state):
            raise UserError(f"the checkpoint was trained with an {name}: give the same --{name} and its options")


def build_language_adapter(options, tower: CLIPTextTower, task) -> Optional[TextAdapter]:
    """What ``--adapter`` adds to a text tower for the languages of a task; None: nothing.

    Raises:
        UserError: the task does not learn languages one after another.
    """
    unread = without_effect(adapter_parts(), options)
    if unread and not rank():
        logger.warning(unread)
    if options.adapter == "none":
        return None
    if len(getattr(task, "current", ())) != 1:
        raise UserError(
            f"--adapter {options.adapter} is for languages that are learned one after another (cll_retrieval)"
        )
    seed = task.seed_for(ADAPTER_SEEDS + task.position)
    return build_adapter(str(options.adapter), options, TowerShape.of(tower), task.languages, seed)
