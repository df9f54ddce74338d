"""What a checkpoint remembers of the languages it has learned."""

import hashlib
from typing import List, Sequence

import torch
from torch import Tensor, nn

from mlvl_fairseq.errors import UserError


def fingerprint_tensor(hex_digest: str) -> Tensor:
    """A sha256 as uint8 [32]: the form in which it can travel in a state dict."""
    return torch.tensor(list(bytes.fromhex(hex_digest)), dtype=torch.uint8)


def tokens_fingerprint(tokens: Sequence[str]) -> Tensor:
    """uint8 [32]: sha256 over token strings in the order of their ids."""
    return fingerprint_tensor(hashlib.sha256("\n".join(tokens).encode()).hexdigest())


class LanguageState(nn.Module):
    """Place in the sequence, token frequencies and the vocabulary's fingerprint, as buffers of the model.

    Token frequencies are `f` of Yang et al. 2024, section 3.4: while language t is learned,
    ``f_v = 1 + [v in CLIP's vocabulary] + (earlier languages whose training captions use v)``.

    Args:
        tokens: token strings of the current vocabulary, in the order of ids.
        clip_size: size of CLIP's own vocabulary; English pre-training counts as one use of these rows.
        position: languages learned before this one.
        current: int [V], in how many languages of the current training data each token occurs (BOS, EOS: 0).
    """

    def __init__(self, tokens: List[str], clip_size: int, position: int, current: Tensor):
        super().__init__()
        self.tokens = tokens
        frequencies = torch.ones(len(tokens))
        frequencies[:clip_size] += 1
        self.register_buffer("position", torch.tensor(position))
        self.register_buffer("token_frequencies", frequencies)
        self.register_buffer("current_tokens", current.to(torch.int32))
        self.register_buffer("vocabulary_fingerprint", tokens_fingerprint(tokens))

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
        """Turn the state of the language before into the one this language starts with, in place: counts go up."""
        learned = state[prefix + "token_frequencies"].float() + state[prefix + "current_tokens"]
        frequencies = self.token_frequencies.clone()
        frequencies[: len(learned)] = learned
        state[prefix + "token_frequencies"] = frequencies
        for name in ("position", "current_tokens", "vocabulary_fingerprint"):
            state[prefix + name] = getattr(self, name).clone()
