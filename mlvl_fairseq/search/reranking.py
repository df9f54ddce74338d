"""The best pictures of a query, put in order by a fusion encoder that reads the words beside each picture."""

from typing import Dict, List, Sequence

import numpy as np
from torch.utils.data import Dataset

from mlvl_fairseq.api import Model
from mlvl_fairseq.data.images.reading import LoadedImage
from mlvl_fairseq.inference.matching import ImageStates, match_pairs
from mlvl_fairseq.networks.base import Encoded
from mlvl_fairseq.search.folder import Index
from mlvl_fairseq.search.query import Query
from mlvl_fairseq.search.sources import Source

MEMORY = 1024  # MiB of encoded pictures that are kept


class Reranker:
    """Scores of pictures by `Model.match`'s network; what it makes of pictures is kept for the next queries.

    Args:
        model: with a fusion encoder. pictures: how many it puts in order.
    """

    def __init__(self, model: Model, pictures: int):
        self.model, self.pictures = model, pictures
        self._states = _KeptStates(model.encoder, _Rows(), MEMORY)

    def __call__(self, query: Query, rows: List[int], index: Index, sources: Sequence[Source]) -> np.ndarray:
        """float32 [rows]; -inf for pictures that cannot be read any more. Not for several threads at once."""
        scores = np.full(len(rows), -np.inf, np.float32)
        self._states.dataset.open(self.model, index, sources)
        readable = [place for place, row in enumerate(rows) if self._states.has(row)]
        if readable:
            own = np.array([rows[place] for place in readable])
            texts = np.zeros(len(own), np.int64)
            scores[readable] = match_pairs(self.model.encoder, self._states, [query.text], query.lang, own, texts)
        return scores


class _Rows(Dataset):
    """Pictures of an index by row; those that were looked at last."""

    def open(self, model: Model, index: Index, sources: Sequence[Source]) -> None:
        self._model, self._index, self._sources = model, index, sources
        self.loaded: Dict[int, LoadedImage] = {}

    def __getitem__(self, row: int) -> LoadedImage:
        if row not in self.loaded:
            part, own = self._index.part_of(row)
            scale = "scale" if self._index.manifest.pictures else "clip"
            transform = self._model.encoder.transform_of(scale)
            source = self._sources[part.source_of(own)]
            self.loaded[row] = source.dataset([part.names[own]], transform)[0]
        return self.loaded[row]


class _KeptStates(ImageStates):
    """States of pictures, of which those that are asked for are kept as long as there is room."""

    def has(self, row: int) -> bool:
        """Whether a picture is kept, or can be read."""
        return row in self.kept or self.dataset[row].pixels is not None

    def __call__(self, rows: Sequence[int]) -> Encoded:
        missing = [row for row in rows if row not in self.kept]
        if missing and self.free < 0:  # the oldest ones would do; which they are is not worth remembering
            self.kept, self.free = {}, MEMORY * 2**20
        for row in missing:
            self.keep(np.array([row]), super().__call__([row]))
        return super().__call__(rows)
