"""Pictures that splits share: a model would be scored on what it was trained on."""

import hashlib
from itertools import combinations
from typing import Dict, Iterator, List, NamedTuple

from tqdm import tqdm

from mlvl_fairseq.data.corpus.corpus import SPLITS, Corpus
from mlvl_fairseq.data.image_names import ImageFolder, image_name
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.files import regular_file_sha256

EXAMPLES = 3


class Overlap(NamedTuple):
    """Pictures of one split that another has, too: the names in both, in pairs."""

    splits: tuple
    pairs: List[tuple]

    def __str__(self) -> str:
        shown = ", ".join(repr(a) if a == b else f"{a!r} is {b!r}" for a, b in self.pairs[:EXAMPLES])
        more = f", ... and {len(self.pairs) - EXAMPLES:,} more" if len(self.pairs) > EXAMPLES else ""
        return f"{self.splits[0]} and {self.splits[1]} share {len(self.pairs):,} photos: {shown}{more}"
