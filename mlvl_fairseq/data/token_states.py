"""What a frozen text encoder makes of captions, one row a token, kept in one memory-mapped file a language."""

from typing import Callable, List, Sequence

import numpy as np
from tqdm import tqdm

from mlvl_fairseq.data.features import FeatureWriter, open_features

CHUNK = 256  # captions encoded at a time; fixed, so that an interrupted extraction goes on with the same batches


class TokenStates:
    """Caption -> its states, [T, width] float16 or float32, a view of the file.

    Args:
        stem: of the file that :func:`extract_token_states` wrote.
        lengths: int [captions], tokens of each caption, BOS and EOS included.
        names: of the captions. fingerprint: of what encoded them.

    Raises:
        DataError: the file is missing, unfinished, damaged, or of other captions or another encoder.
    """

    def __init__(self, stem, lengths: np.ndarray, names: Sequence[str], fingerprint: str):
        self._ends = np.cumsum(lengths, dtype=np.int64)
        self._array = open_features(stem, int(self._ends[-1]), fingerprint, names)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, caption: int) -> np.ndarray:
        start = self._ends[caption - 1] if caption else 0
        return self._array[start : self._ends[caption]]


def extract_token_states(
    encode: Callable[[Sequence[int]], List[np.ndarray]],
    stem,
    lengths: np.ndarray,
    names: Sequence[str],
    width: int,
    model: str,
    fingerprint: str,
    dtype: str = "float16",
    title: str = "states",
) -> None:
    """Write the states of all captions; an interrupted extraction goes on where it was.

    Args:
        encode: numbers of captions -> their states, [T, width] each.
        stem, lengths, names, fingerprint: see :class:`TokenStates`.
        width: dimension of a state. model: name of the encoder, for people. dtype: of the file.

    Raises:
        DataError: there are states of other captions or of another encoder.
    """
    ends = np.cumsum(lengths, dtype=np.int64)
    with FeatureWriter(stem, names, width, model, fingerprint, dtype, rows=int(ends[-1])) as writer:
        first = int(np.searchsorted(ends, writer.rows_done, side="right"))
        for start in tqdm(range(first, len(ends), CHUNK), desc=title, unit=" batches"):
            writer.write(np.concatenate(encode(range(start, min(start + CHUNK, len(ends))))))
