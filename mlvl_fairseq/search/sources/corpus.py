"""The pictures of a corpus folder."""

from functools import cached_property
from pathlib import Path
from typing import List

from mlvl_fairseq.data.corpus import SPLITS, Corpus
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.search.sources.base import register_source
from mlvl_fairseq.search.sources.files import FileSource


@register_source("corpus")
class CorpusSource(FileSource):
    """A corpus folder of mlvl-prepare that knows its pictures (--image-root)."""

    @staticmethod
    def recognises(path: Path) -> bool:
        return (path / "corpus.json").is_file()

    @cached_property
    def corpus(self) -> Corpus:
        return Corpus(self.path)

    def root(self) -> str:
        root = self.corpus.manifest["image_root"]
        if not root:
            raise DataError("holds image features only, no pictures that could be shown", self.path)
        return root

    def names(self) -> List[str]:
        self.root()
        splits = [split for split in SPLITS if split in self.corpus.manifest["splits"]]
        return sorted({name for split in splits for name in self.corpus.images(split)})
