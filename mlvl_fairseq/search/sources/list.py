"""A list of pictures: a text file with a path a line."""

import logging
from pathlib import Path
from typing import List

from mlvl_fairseq.data.captions.lines import text_lines
from mlvl_fairseq.search.sources.base import register_source
from mlvl_fairseq.search.sources.files import FileSource

logger = logging.getLogger(__name__)


@register_source("list")
class ListSource(FileSource):
    """A text file (.txt) with a picture's path a line, absolute or from the file's folder."""

    allow_outside = True  # whoever wrote the list has chosen each

    @staticmethod
    def recognises(path: Path) -> bool:
        return path.is_file() and path.suffix.lower() == ".txt"

    def root(self) -> str:
        return str(self.path.parent)

    def names(self) -> List[str]:
        lines = [line.strip() for line in text_lines(self.path)]
        names = sorted({line for line in lines if line})
        if len(names) < len(lines):
            logger.warning("%s: %d lines are empty or name a picture again", self.path, len(lines) - len(names))
        return names
