"""Captions of several languages in one data set, each beside its image and, where known, an English sentence."""

from typing import Dict, List, Optional, Sequence

import numpy as np
import torch

from mlvl_fairseq.data.caption_dataset import CaptionDataset
from mlvl_fairseq.data.language_sampling import mixed_epoch, one_language_epoch
from mlvl_fairseq.data.token_states import TokenStates


class MultilingualCaptionDataset(CaptionDataset):
    """A :class:`CaptionDataset` that knows languages. Batches also have ``lang_ids`` int64 [B]; with `english`,
    ``has_english`` bool [B], False where ``text_features`` has no meaning; with `states`, ``net_input.states``.

    Args:
        lang_sizes: captions of each language, in the order in which `tokens` holds them.
        temperature: of sampling languages while shuffling (:func:`sampling_shares`).
        one_language: whether every global batch (``keep_multiple_of`` captions) is of one language.
        states: what a frozen text encoder makes of each language's captions; None: it runs while training.
    """

    def __init__(
        self,
        *args,
        lang_sizes: Sequence[int],
        temperature: float = 1.0,
        one_language: bool = False,
        states: Optional[Sequence[TokenStates]] = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.lang_sizes, self.temperature, self.one_language = list(lang_sizes), temperature, one_language
        self.states, self._starts = states, np.cumsum([0, *lang_sizes])

    def language_of(self, index: int) -> int:
        """Position of a caption's language."""
        return int(np.searchsorted(self._starts, index, side="right")) - 1

    def ordered_indices(self) -> np.ndarray:
        if not self.shuffle:
            return super().ordered_indices()
        epoch = one_language_epoch if self.one_language else mixed_epoch
        return epoch(self.lang_sizes, self.temperature, self.keep_multiple_of)

    def collater(self, samples: List[Dict]) -> Dict:
        batch = super().collater(samples)
        if not batch:
            return batch
        languages = [self.language_of(s["id"]) for s in samples]
        batch["lang_ids"] = torch.tensor(languages)
        if self.english is not None:
            batch["has_english"] = torch.tensor([s["english_row"] >= 0 for s in samples])
        if self.states is not None:
            places = [(lang, s["id"] - int(self._starts[lang])) for lang, s in zip(languages, samples)]
            width = batch["net_input"]["tokens"].shape[1]
            batch["net_input"]["states"] = pad_states([self.states[lang][row] for lang, row in places], width)
        return batch


def pad_states(states: Sequence[np.ndarray], length: int) -> torch.Tensor:
    """float32 [B, length, width] of [T, width] arrays, zero behind their ends."""
    padded = torch.zeros(len(states), length, states[0].shape[1])
    for row, own in zip(padded, states):
        row[: len(own)] = torch.from_numpy(np.asarray(own, np.float32))
    return padded
