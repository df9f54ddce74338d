"""Captions with their images and English sentences, in one or several languages, as fairseq batches."""

from typing import Dict, List, NamedTuple, Optional, Sequence, Union

import numpy as np
import torch
from fairseq.data import FairseqDataset
from fairseq.data.indexed_dataset import MMapIndexedDataset
from torch.utils.data import ConcatDataset, Subset

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

    def __getitem__(self, index: int) -> "Captions":
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> "Captions":
        """What a batch is collated of; data loaders ask for all captions of a batch at once."""
        numbers = np.asarray(indices, dtype=np.int64)
        if self.images is None or isinstance(self.images, np.ndarray):
            return Captions(numbers, None)
        return Captions(numbers, [self._picture(int(self.rows[index, 0]), int(index)) for index in numbers])

    def _picture(self, image_row: int, index: int) -> torch.Tensor:
        of_caption = getattr(self.images, "of_caption", None)
        return of_caption(image_row, index) if of_caption else self.images[image_row]

    def set_epoch(self, epoch: int) -> None:
        if hasattr(self.images, "set_epoch"):
            self.images.set_epoch(epoch)

    def num_tokens(self, index: int) -> int:
        return int(self.sizes[index])

    def num_tokens_vec(self, indices: np.ndarray) -> np.ndarray:
        """The same of many, which fairseq would ask for one by one."""
        return self.sizes[indices]

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

    def collater(self, captions: Union["Captions", Sequence["Captions"]]) -> Dict:
        """Right-padded tokens [B, T], EOS positions [B], lengths [B], which stay an array, image ids [B], and the
        features of the batch's rows."""
        if not isinstance(captions, Captions):
            captions = Captions.joined(captions)
        numbers, pictures = captions
        if not len(numbers):
            return {}
        lengths, (image_ids, english_rows) = self.sizes[numbers].astype(np.int64), self.rows[numbers].T.astype(np.int64)
        tokens = np.full((len(numbers), lengths.max()), self.pad, dtype=np.int64)
        tokens[:, 0] = self.bos
        tokens[:, 1:][np.arange(1, tokens.shape[1]) < lengths[:, None]] = first_tokens(
            self.tokens, numbers, lengths - 1
        )
        if self.ends_texts:
            tokens[np.arange(len(numbers)), lengths - 1] = self.eos
        batch = {
            "id": torch.from_numpy(numbers),
            "nsentences": len(numbers),
            "ntokens": int(lengths.sum()),
            "net_input": {
                "tokens": torch.from_numpy(tokens),
                "eos_positions": end_positions(torch.from_numpy(lengths)),
                "lengths": lengths,
            },
            "image_ids": torch.from_numpy(image_ids),
        }
        if isinstance(self.images, np.ndarray):
            batch["image_features"] = gather_rows(self.images, image_ids)
        elif pictures is not None:
            batch["image_features"] = torch.stack(pictures)
        if self.english is not None:
            batch["text_features"] = gather_rows(self.english, english_rows)
        if self.states is not None:
            batch["net_input"]["states"] = pad_states([self.states[number] for number in numbers], tokens.shape[1])
        return batch


class Captions(NamedTuple):
    """Captions that a batch is made of.

    Attributes:
        numbers: int64 [B], in the data set. pictures: those beside them; None: the batch has features or nothing.
    """

    numbers: np.ndarray
    pictures: Optional[List[torch.Tensor]]

    @classmethod
    def joined(cls, parts: Sequence["Captions"]) -> "Captions":
        """Those of several, in their order."""
        numbers = np.concatenate([np.empty(0, np.int64), *(part.numbers for part in parts)])
        pictures = [part.pictures for part in parts if part.pictures is not None]
        return cls(numbers, [picture for own in pictures for picture in own] if pictures else None)


class DataSetsCaptionDataset(CaptionDataset):
    """A :class:`CaptionDataset` of several data sets, whose batches come from one after the other in turn. Batches also
    have ``data_set_ids`` int64 [B], and ``data_set``, the first of these.

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

    def collater(self, captions) -> Dict:
        batch = super().collater(captions)
        if batch:
            own = self.data_set_of[batch["id"].numpy()]
            batch.update(data_set_ids=torch.from_numpy(own), data_set=int(own[0]))
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

    def language_of(self, captions: np.ndarray) -> np.ndarray:
        """int64, of the same shape: positions of the languages of captions."""
        return np.searchsorted(self._starts, captions, side="right") - 1

    def ordered_indices(self) -> np.ndarray:
        if not self.shuffle:
            return super().ordered_indices()
        if self.one_language:
            return one_language_epoch(self.lang_sizes, self.temperature, self.keep_multiple_of)
        return whole_batches(mixed_epoch(self.lang_sizes, self.temperature), self.keep_multiple_of)

    def collater(self, captions) -> Dict:
        batch = super().collater(captions)
        if not batch:
            return batch
        numbers = batch["id"].numpy()
        batch["lang_ids"] = torch.from_numpy(self.language_of(numbers))
        if self.english is not None:
            batch["has_english"] = torch.from_numpy(self.rows[numbers, 1] >= 0)
        return batch


def whole_batches(order: np.ndarray, multiple: int) -> np.ndarray:
    """`order` without what is beyond the last multiple; all of it where there is less than one."""
    return order[: len(order) - len(order) % multiple or len(order)]


def first_tokens(tokens, captions: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """int64 [sum of `counts`]: the first so many ids of each of these captions (int64 [B]), one behind the other.

    Args:
        tokens: any sequence of sequences of ids; memory-mapped files, parts of them, and several one behind the other
            are read without a loop over captions.
    """
    if isinstance(tokens, Subset):
        return first_tokens(tokens.dataset, np.asarray(tokens.indices)[captions], counts)
    if isinstance(tokens, ConcatDataset):
        ends = np.asarray(tokens.cumulative_sizes)
        parts = np.searchsorted(ends, captions, side="right")
        ids, part_of = np.empty(counts.sum(), np.int64), np.repeat(parts, counts)
        for part in np.unique(parts):
            own, start = parts == part, ends[part] - len(tokens.datasets[part])
            ids[part_of == part] = first_tokens(tokens.datasets[part], captions[own] - start, counts[own])
        return ids
    if isinstance(tokens, MMapIndexedDataset):
        ids = np.frombuffer(tokens._bin_buffer, tokens._index.dtype)
        before = tokens._index._pointers[captions] // ids.itemsize - (np.cumsum(counts) - counts)
        return ids[np.repeat(before, counts) + np.arange(counts.sum())].astype(np.int64)
    return np.concatenate([np.asarray(tokens[i][:count], np.int64) for i, count in zip(captions.tolist(), counts)])


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
    """`first` with the rows of `second` behind its own in tokens, EOS positions, lengths, image ids and image features.

    ``id``, ``nsentences`` and ``text_features`` stay those of `first`. Tensors come to the device of `first`.
    """
    device, tokens = first["image_ids"].device, (first["net_input"]["tokens"], second["net_input"]["tokens"])
    length = max(part.shape[1] for part in tokens)
    # looked up on the device: Python would have to wait for a number
    padding = tokens[0][:1].gather(1, first["net_input"]["eos_positions"][:1, None])
    padded = [torch.cat([part.to(device), padding.expand(len(part), length - part.shape[1])], dim=1) for part in tokens]
    ends = torch.cat([first["net_input"]["eos_positions"], second["net_input"]["eos_positions"].to(device)])
    lengths = np.concatenate([part["net_input"]["lengths"] for part in (first, second)])
    joined = {key: torch.cat([first[key], second[key].to(first[key])]) for key in ("image_ids", "image_features")}
    return {
        **first,
        **joined,
        "ntokens": first["ntokens"] + second["ntokens"],
        "net_input": {**first["net_input"], "tokens": torch.cat(padded), "eos_positions": ends, "lengths": lengths},
    }
