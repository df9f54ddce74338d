"""Captions of earlier languages by their place in the corpus, cut with today's vocabulary or, with ``--segmentation
frozen``, as their language was."""

from typing import Dict, List, Sequence

import numpy as np

from mlvl_fairseq.data.caption_dataset import CaptionDataset


class MemoryCaptions:
    """The captions that a memory points at, ready to be put into batches.

    Args:
        task: the running ``cll_retrieval`` task.
        items: int64 [M, 2], place of the language in the order of learning, and caption within it.
    """

    def __init__(self, task, items: np.ndarray):
        self.languages, self.vocab_size = items[:, 0], len(task.dictionary)
        self._ids: List[List[int]] = [[]] * len(items)
        self._rows = np.empty((len(items), 2), np.int32)
        encoder = task.tokenizer
        for place in np.unique(self.languages):
            entries = (self.languages == place).nonzero()[0]
            self._read(task, encoder, int(place), entries, items[entries, 1])
        tokens = [np.array([*ids, encoder.eos], dtype=np.int32) for ids in self._ids]
        self._dataset = CaptionDataset(
            tokens,
            np.array([len(ids) for ids in tokens]),
            self._rows,
            encoder.bos,
            encoder.eos,
            images=task.corpus.features("train", "image"),
            english=task.corpus.features("train", "text"),
            max_length=task.cfg.max_length,
        )

    def _read(self, task, encoder, place: int, entries: np.ndarray, captions: np.ndarray) -> None:
        """Captions come from the binarized file of their language: it is random access, a text file is not."""
        lang, vocabulary = task.languages[place], task.vocabulary_after(task.languages[: place + 1])
        binarized = task.load_captions("train", [lang], vocabulary=vocabulary)
        self._rows[entries] = binarized.rows[captions]
        if task.freezes_segmentation:
            for entry, caption in zip(entries, captions):
                self._ids[entry] = binarized.tokens[caption][:-1].tolist()
            return
        then = vocabulary.tokenizer
        texts = [then.decode(binarized.tokens[caption][:-1].tolist()) for caption in captions]
        for entry, ids in zip(entries, encoder.encode_batch(texts)):
            self._ids[entry] = ids

    def batch(self, rows: Sequence[int]) -> Dict:
        """Collated captions of these rows of the memory (see :class:`CaptionDataset`)."""
        return self._dataset.collater(self._dataset.__getitems__(rows))

    def languages_of_tokens(self) -> np.ndarray:
        """int32 [V]: in the captions of how many languages of the memory each token occurs."""
        counts = np.zeros(self.vocab_size, np.int32)
        for place in np.unique(self.languages):
            entries = (self.languages == place).nonzero()[0]
            counts[np.unique(np.concatenate([self._ids[entry] for entry in entries]).astype(np.int64))] += 1
        return counts
