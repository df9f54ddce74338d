"""What a checkpoint remembers of the languages it has learned."""

import hashlib
from typing import List, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mlvl_fairseq.checkpoints.source import fingerprint_tensor
from mlvl_fairseq.continual.row_scales import RowUse
from mlvl_fairseq.errors import UserError

SHARE_UNIT = 2**40


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
