"""Every vector is compared, in half precision by faiss; the best ones again exactly."""

import logging
from typing import List, Optional

import numpy as np

from mlvl_fairseq.search.engines.base import Engine, register_engine
from mlvl_fairseq.search.engines.exact import margin_of
from mlvl_fairseq.search.folder import Index, as_float32

HALF = 2.0**-11  # what rounding a coordinate to half precision changes, at most, of its size
SMALLEST_HALF = 2.0**-25  # or at most this


@register_engine("faiss_half")
class FaissHalfEngine(Engine):
    """Compares every vector in half precision (faiss), the best ones again: exact, in half the memory.

    Rounding moves a score by at most :attr:`margin`. Candidates are asked for until the last one is that much below the
    `k`-th best, twice: then nothing that was not asked for can be among the best.
    """

    about = "compared exactly, one by one (faiss)"
    least = 20_000
    requires = "faiss"
    exact = True
    reads_all = True

    def __init__(self, index: Index, uri: Optional[str] = None):
        faiss = load_faiss()
        super().__init__(index)
        self.margin = margin_of(index.dim) + 2 * 1.01 * (HALF + np.sqrt(index.dim) * SMALLEST_HALF)
        half = faiss.IndexScalarQuantizer(index.dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        self._faiss = faiss.IndexIDMap(half)
        for rows, block in index.blocks():
            self._faiss.add_with_ids(as_float32(block), rows)
        self._live = only(index.live)

    def candidates(self, queries: np.ndarray, k: int) -> List[np.ndarray]:
        return [self._of_one(query[None], k) for query in queries]

    def _of_one(self, query: np.ndarray, k: int) -> np.ndarray:
        faiss, wanted = load_faiss(), 4 * k + 64
        while True:
            wanted = min(wanted, len(self.index))
            scores, rows = self._faiss.search(query, wanted, params=faiss.SearchParameters(sel=self._live))
            enough = wanted == len(self.index) or rows[0, -1] < 0 or scores[0, -1] < scores[0, k - 1] - self.margin
            if enough:
                return rows[0, rows[0] >= 0]
            wanted *= 4


def load_faiss():
    """The package; it logs which of its libraries it looks for."""
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)
    import faiss

    return faiss


def only(wanted: np.ndarray):
    """A selector of faiss: the rows for which bool [numbers] is true; its bits live as long as it does."""
    faiss = load_faiss()
    bits = np.packbits(wanted, bitorder="little")
    selector = faiss.IDSelectorBitmap(len(wanted), faiss.swig_ptr(bits))
    selector.bits = bits
    return selector
