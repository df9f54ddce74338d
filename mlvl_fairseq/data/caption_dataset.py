"""Captions with their images and English sentences, in one or several languages, as fairseq batches."""

from typing import Dict, List, Optional, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from fairseq.data import FairseqDataset

from mlvl_fairseq.data.sampling import alternating_epoch, mixed_epoch, one_language_epoch


def end_positions(lengths: torch.Tensor) -> torch.Tensor:
    """Position of the last token of each caption, its EOS if there is one, given its length [B] with BOS and EOS."""
    return lengths - 1


class CaptionDataset(FairseqDataset):
    """Tokenised captions, each beside an image row and (for distillation) an English row of feature arrays.

    Args:
        tokens: indexed dataset; item i = ids of caption i and a final EOS, without BOS.
        sizes: int [captions], length of each item.
        rows: int32 [captions, 2], image row and English row (-1: none) of each caption.
        bos, eos: token ids.
        images: image row -> what the image tower takes: an array [images, dims] of features, or an object whose
            ``__getitem__(row)`` gives a float tensor [3, H, W]; or ``of_caption(row, caption)`` where captions differ.
        english: array [English rows, dims] of teacher text features, or None.
        max_length: longest caption, BOS and EOS included; longer ones are cut and keep their EOS.
        shuffle: draw a new order every epoch (the order follows fairseq's seed and epoch only).
        pad: id of padding; None: `eos`, as in CLIP.
        ends_texts: whether batches have the EOS that items end with, see :class:`~mlvl_fairseq.data.text.Tokenizer`.
        states: what a frozen text encoder makes of each caption: a state a token, [T, width], or one vector, [width];
            batches have them as ``net_input.states``. None: it runs while training.
    """

    def __init__(
        self,
        tokens,
        sizes: np.ndarray,
        rows: np.ndarray,
        bos: int,
        eos: int,
        images=None,
        english: Optional[np.ndarray] = None,
        max_length: int = 77,
        shuffle: bool = False,
        pad: Optional[int] = None,
        ends_texts: bool = True,
        states: Optional[Sequence[np.ndarray]] = None,
    ):
        self.states = states
        self.tokens, self.rows, self.bos, self.eos = tokens, rows, bos, eos
        self.pad = eos if pad is None else pad
        self.images, self.english = images, english
        self.max_length, self.shuffle, self.ends_texts = max_length, shuffle, ends_texts
        self.sizes = self._lengths(sizes)
        self.keep_multiple_of = 1

    def __len__(self) -> int:
        return len(self.sizes)

    def _lengths(self, sizes: np.ndarray) -> np.ndarray:
        """Of captions with BOS, which files do not hold, and EOS, which they do."""
        return np.minimum(sizes + 1 if self.ends_texts else sizes, self.max_length)

    def __getitem__(self, index: int) -> Dict:
        image_row, english_row = self.rows[index]
        item = {"id": index, "tokens": self.tokens[index], "image_id": int(image_row), "english_row": int(english_row)}
        if self.images is not None and not isinstance(self.images, np.ndarray):
            item["image"] = self._picture(int(image_row), index)
        return item

    def _picture(self, image_row: int, index: int) -> torch.Tensor:
        of_caption = getattr(self.images, "of_caption", None)
        return of_caption(image_row, index) if of_caption else self.images[image_row]

    def set_epoch(self, epoch: int) -> None:
        if hasattr(self.images, "set_epoch"):
            self.images.set_epoch(epoch)

    def num_tokens(self, index: int) -> int:
        return int(self.sizes[index])

    def size(self, index: int) -> int:
        return int(self.sizes[index])

    def ordered_indices(self) -> np.ndarray:
        """A fresh permutation (fairseq seeds numpy with seed + epoch), or the stored order.

        When shuffling, captions beyond the last multiple of `keep_multiple_of` are left out of the epoch, so that
        every batch, on every rank, is full: a short batch would have fewer negatives.
        """
        if not self.shuffle:
            return np.arange(len(self))
        return whole_batches(np.random.permutation(len(self)), self.keep_multiple_of)

    def collater(self, samples: List[Dict]) -> Dict:
        """Right-padded tokens [B, T], EOS positions [B], image ids [B], and the features of the batch's rows."""
        if not samples:
            return {}
        lengths = torch.from_numpy(self._lengths(np.array([len(s["tokens"]) for s in samples])))
        tokens = torch.full((len(samples), int(lengths.max())), self.pad, dtype=torch.long)
        tokens[:, 0] = self.bos
        for row, length, sample in zip(tokens, lengths.tolist(), samples):
            row[1:length] = sample["tokens"][: length - 1]
            if self.ends_texts:
                row[length - 1] = self.eos
        image_ids = np.array([s["image_id"] for s in samples])
        batch = {
            "id": torch.tensor([s["id"] for s in samples]),
            "nsentences": len(samples),
            "ntokens": int(lengths.sum()),
            "net_input": {"tokens": tokens, "eos_positions": end_positions(lengths)},
            "image_ids": torch.from_numpy(image_ids),
        }
        if isinstance(self.images, np.ndarray):
            batch["image_features"] = gather_rows(self.images, image_ids)
        elif self.images is not None:
            batch["image_features"] = torch.stack([s["image"] for s in samples])
        if self.english is not None:
            batch["text_features"] = gather_rows(self.english, np.array([s["english_row"] for s in samples]))
        if self.states is not None:
            batch["net_input"]["states"] = pad_states([self.states[s["id"]] for s in samples], tokens.shape[1])
        return batch


class DataSetsCaptionDataset(CaptionDataset):
    """A :class:`CaptionDataset` of several data sets, whose batches come from one after the other in turn. Batches also
    have ``data_set_ids`` int64 [B].

    Args:
        data_set_of_image: int64 [images], the number of the data set that each image row is of.
        seed: of the run; what is drawn follows it and the epoch.

    Attributes:
        members: int64 [n], the captions of each data set.
    """

    def __init__(self, *args, data_set_of_image: np.ndarray, seed: int, **kwargs):
        super().__init__(*args, **kwargs)
        self.seed, self.epoch, self.data_set_of = seed, 1, data_set_of_image[self.rows[:, 0]]
        self.members = [np.flatnonzero(self.data_set_of == number) for number in range(data_set_of_image.max() + 1)]

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self.epoch = epoch

    def ordered_indices(self) -> np.ndarray:
        """Global batches (``keep_multiple_of`` captions) of the first data set, the second, ..., the first again; each
        gives as many as the smallest has. Or the stored order."""
        if not self.shuffle:
            return super().ordered_indices()
        drawn = alternating_epoch([len(own) for own in self.members], self.keep_multiple_of, self.epoch, self.seed)
        return np.stack([own[rows] for own, rows in zip(self.members, drawn)], axis=1).reshape(-1)

    def collater(self, samples: List[Dict]) -> Dict:
        batch = super().collater(samples)
        if batch:
            batch["data_set_ids"] = torch.from_numpy(self.data_set_of[[s["id"] for s in samples]])
        return batch


class MultilingualCaptionDataset(CaptionDataset):
    """A :class:`CaptionDataset` that knows languages. Batches also have ``lang_ids`` int64 [B]; with `english`,
    ``has_english`` bool [B], False where ``text_features`` has no meaning.

    Args:
        lang_sizes: captions of each language, in the order in which `tokens` holds them.
        temperature: of sampling languages while shuffling (:func:`sampling_shares`).
        one_language: whether every global batch (``keep_multiple_of`` captions) is of one language.
    """

    def __init__(
        self,
        *args,
        lang_sizes: Sequence[int],
        temperature: float = 1.0,
        one_language: bool = False,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.lang_sizes, self.temperature, self.one_language = list(lang_sizes), temperature, one_language
        self._starts = np.cumsum([0, *lang_sizes])

    def language_of(self, index: int) -> int:
        """Position of a caption's language."""
        return int(np.searchsorted(self._starts, index, side="right")) - 1

    def ordered_indices(self) -> np.ndarray:
        if not self.shuffle:
            return super().ordered_indices()
        if self.one_language:
            return one_language_epoch(self.lang_sizes, self.temperature, self.keep_multiple_of)
        return whole_batches(mixed_epoch(self.lang_sizes, self.temperature), self.keep_multiple_of)

    def collater(self, samples: List[Dict]) -> Dict:
        batch = super().collater(samples)
        if not batch:
            return batch
        batch["lang_ids"] = torch.tensor([self.language_of(s["id"]) for s in samples])
        if self.english is not None:
            batch["has_english"] = torch.tensor([s["english_row"] >= 0 for s in samples])
        return batch


def whole_batches(order: np.ndarray, multiple: int) -> np.ndarray:
    """`order` without what is beyond the last multiple; all of it where there is less than one."""
    return order[: len(order) - len(order) % multiple or len(order)]


def gather_rows(array: np.ndarray, rows: Sequence[int]) -> torch.Tensor:
    """float32 tensor of `array[rows]`, read from a memory map without keeping it open for writing."""
    return torch.from_numpy(np.asarray(array[rows], dtype=np.float32))


def pad_states(states: Sequence[np.ndarray], length: int) -> torch.Tensor:
    """float32 [B, length, width] of [T, width] arrays, zero behind their ends; [B, width] of [width] ones."""
    if states[0].ndim == 1:
        return torch.from_numpy(np.stack(states).astype(np.float32))
    padded = torch.zeros(len(states), length, states[0].shape[1])
    for row, own in zip(padded, states):
        row[: len(own)] = torch.from_numpy(np.asarray(own, np.float32))
    return padded


def join_batches(first: Dict, second: Dict) -> Dict:
    """`first` with the rows of `second` behind its own in tokens, EOS positions, image ids and image features.

    ``id``, ``nsentences`` and ``text_features`` stay those of `first`. Tensors come to the device of `first`.
    """
    device, tokens = first["image_ids"].device, (first["net_input"]["tokens"], second["net_input"]["tokens"])
    padding, length = int(tokens[0][0, first["net_input"]["eos_positions"][0]]), max(t.shape[1] for t in tokens)
    padded = [F.pad(part.to(device), (0, length - part.shape[1]), value=padding) for part in tokens]
    ends = torch.cat([first["net_input"]["eos_positions"], second["net_input"]["eos_positions"].to(device)])
    joined = {key: torch.cat([first[key], second[key].to(first[key])]) for key in ("image_ids", "image_features")}
    return {
        **first,
        **joined,
        "ntokens": first["ntokens"] + second["ntokens"],
        "net_input": {**first["net_input"], "tokens": torch.cat(padded), "eos_positions": ends},
    }
