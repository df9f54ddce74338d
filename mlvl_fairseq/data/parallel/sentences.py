"""Binarized sentences as the encoder and the decoder take them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np
import torch
from fairseq.data import Dictionary, LanguagePairDataset, data_utils
from fairseq.data.indexed_dataset import infer_dataset_impl

from mlvl_fairseq.data.parallel.directions import Direction, pair_prefix
from mlvl_fairseq.data.token_files import open_tokens
from mlvl_fairseq.errors import DataError, one_line
from mlvl_fairseq.files import require_file

_AGAIN = "run fairseq-preprocess again"
# fairseq-preprocess --dataset-impl -> how such files are read; all others are memory-mapped
_OTHER_FILES = {"lazy": "lazy", "cached": "lazy", "huffman": "huffman"}


@dataclass(frozen=True)
class SentenceOptions:
    """What is done to the sentences of every direction.

    Attributes:
        source_bos: put ``<s>`` before sources, as XLM-R was trained.
        truncate: cut both sides to so many tokens, ``</s>`` included and ``<s>`` not; 0: leave them as they are.
    """

    source_bos: bool = True
    truncate: int = 0


class Sentences(torch.utils.data.Dataset):
    """Sentences that end with ``</s>``, cut to a length that keeps it, with ``<s>`` before them.

    Args:
        tokens: indexed; item i = int64 ids of sentence i and a final ``</s>``.
        sizes: int [sentences], length of each item.
        eos: id of ``</s>``. bos: id of ``<s>``; None: it is not put there.
        truncate: longest sentence, ``</s>`` included and ``<s>`` not; 0: any.
    """

    def __init__(self, tokens, sizes: np.ndarray, eos: int, bos: Optional[int] = None, truncate: int = 0):
        self.tokens, self.truncate = tokens, truncate
        self.bos = torch.tensor([] if bos is None else [bos], dtype=torch.long)
        self.eos = torch.tensor([eos])
        cut = np.minimum(sizes, truncate) if truncate else np.asarray(sizes)
        self.sizes = cut + len(self.bos)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> torch.Tensor:
        ids = self.tokens[index]
        if self.truncate and len(ids) > self.truncate:
            ids = torch.cat([ids[: self.truncate - 1], self.eos])
        return torch.cat([self.bos, ids])


def load_direction(
    folder, split: str, direction: Direction, dictionary: Dictionary, options: SentenceOptions, impl=None
) -> LanguagePairDataset:
    """The sentence pairs of a direction, whichever way round their files were written.

    Args:
        folder: ``--destdir`` of fairseq-preprocess. impl: ``--dataset-impl``; None: as the files are.

    Raises:
        UserError: there are no such files. DataError: the two sides do not belong together.
    """
    prefix = pair_prefix(folder, split, direction)
    source, target = (_open(f"{prefix}.{lang}", dictionary, impl) for lang in direction)
    if len(source) != len(target):
        message = f"{len(source)} sentences, but {len(target)} in {Path(prefix).name}.{direction.target}.idx"
        raise DataError(message + "; run fairseq-preprocess again", f"{prefix}.{direction.source}.idx")
    bos, eos, cut = dictionary.bos() if options.source_bos else None, dictionary.eos(), options.truncate
    source, target = Sentences(source, source.sizes, eos, bos, cut), Sentences(target, target.sizes, eos, None, cut)
    return LanguagePairDataset(
        source, source.sizes, dictionary, target, target.sizes, dictionary, left_pad_source=False, shuffle=False
    )


def _open(prefix: str, dictionary: Dictionary, impl):
    """Raises DataError: the files are empty or damaged, or hold ids that are not in the dictionary."""
    for suffix in ("idx", "bin"):
        require_file(f"{prefix}.{suffix}", _AGAIN)
    other = _OTHER_FILES.get(impl or infer_dataset_impl(prefix))
    if other is None:
        return open_tokens(prefix, len(dictionary), _AGAIN)
    try:
        sentences = data_utils.load_indexed_dataset(prefix, dictionary, other)
    except Exception as error:  # files of fairseq's older kinds, which checks nothing in them
        raise DataError(f"is empty or damaged ({one_line(error)}); {_AGAIN}", f"{prefix}.bin") from None
    if not len(sentences):
        raise DataError("holds no sentences", f"{prefix}.idx")
    return sentences


def sources_for_inference(
    tokens, lengths, dictionary: Dictionary, options: SentenceOptions, constraints=None
) -> LanguagePairDataset:
    """Sentences to translate: ids that end with ``</s>``, and their lengths, as training has sources."""
    bos = dictionary.bos() if options.source_bos else None
    source = Sentences(tokens, np.asarray(lengths), dictionary.eos(), bos, options.truncate)
    return LanguagePairDataset(
        source, source.sizes, dictionary, tgt_dict=dictionary, left_pad_source=False, constraints=constraints
    )
