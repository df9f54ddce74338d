"""Pictures that splits share: a model would be scored on what it was trained on."""

import hashlib
import os
from itertools import combinations
from typing import Dict, List, NamedTuple, Tuple

from tqdm import tqdm

from mlvl_fairseq.data.archives import archived
from mlvl_fairseq.data.corpus.corpus import Corpus
from mlvl_fairseq.data.image_names import ImageFolder, image_name
from mlvl_fairseq.digests import file_sha256
from mlvl_fairseq.errors import DataError, UserError

EXAMPLES = 3


class Overlap(NamedTuple):
    """Pictures that two splits share, by their names in both."""

    splits: Tuple[str, str]
    pairs: List[Tuple[str, str]]

    def __str__(self) -> str:
        shown = ", ".join(repr(a) if a == b else f"{a!r} is {b!r}" for a, b in self.pairs[:EXAMPLES])
        more = f", ... and {len(self.pairs) - EXAMPLES:,} more" if len(self.pairs) > EXAMPLES else ""
        return f"{self.splits[0]} and {self.splits[1]} share {len(self.pairs):,} photos: {shown}{more}"


def shared_by_name(corpus: Corpus) -> List[Overlap]:
    """What splits share by name, where they share anything."""
    root = corpus.manifest.get("image_root")
    return _shared({s: {image_name(name, root): name for name in corpus.images(s)} for s in corpus.manifest["splits"]})


def shared_by_content(corpus: Corpus, allow_outside: bool = False) -> List[Overlap]:
    """What splits share by the bytes of the files, where they share anything; with a progress bar.

    Args:
        allow_outside: whether names may leave the corpus's image root.

    Raises:
        UserError: the corpus does not know where its images are. DataError: one is not there.
    """
    root = corpus.manifest.get("image_root")
    if not root:
        raise UserError(f"{corpus.folder} does not know where its images are; give --image-root to compare them")
    folder, names = (
        ImageFolder(root, allow_outside),
        {split: corpus.images(split) for split in corpus.manifest["splits"]},
    )
    contents: Dict[str, Dict[str, str]] = {split: {} for split in names}
    with tqdm(total=sum(map(len, names.values())), desc="compare photos", unit=" photos") as bar:
        for split, own in names.items():
            for name in own:
                contents[split].setdefault(_content(folder.path(name), split), name)
                bar.update()
    return _shared(contents)


def _content(path: str, split: str) -> str:
    """sha256 (hex) of a picture's file. Raises DataError: it is not there."""
    found = archived(path)
    if found is not None:
        archive, name = found
        return hashlib.sha256(archive.read(name)).hexdigest()
    if not os.path.isfile(path):
        raise DataError(f"there is no such image of the {split} split; mend --image-root", path)
    return file_sha256(path)


def _shared(keys: Dict[str, Dict[str, str]]) -> List[Overlap]:
    """Args: keys: by split, what tells pictures apart -> their name there."""
    overlaps = []
    for first, second in combinations(keys, 2):
        pairs = [(name, keys[second][key]) for key, name in keys[first].items() if key in keys[second]]
        if pairs:
            overlaps.append(Overlap((first, second), pairs))
    return overlaps
