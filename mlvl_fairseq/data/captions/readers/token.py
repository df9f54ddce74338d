"""Flickr8k's and Flickr30k's token files: ``name.jpg#0 <tab> caption``; Flickr8k-CN's ``name.jpg#zhc#0 caption``."""

import re

from mlvl_fairseq.data.captions.cells import CAPTION_ID, is_file_name
from mlvl_fairseq.data.captions.lines import text_lines
from mlvl_fairseq.data.captions.readers.coco_cn import looks_like_coco_cn
from mlvl_fairseq.data.captions.reading import CaptionReader, CaptionSource, register_reader
from mlvl_fairseq.data.captions.table import WRONG_COLUMN_COUNT, TableBuilder

_LINE = re.compile(r"(?P<image>[^\t]*?\S#(?:[A-Za-z]\w*#)?\d+)[\t ]+(?P<caption>.*)")


def is_token_line(line: str) -> bool:
    """Does a line begin with an image name and the id of a caption?"""
    return _LINE.match(line) is not None


@register_reader("token")
class TokenReader(CaptionReader):
    """One caption a line behind its image's name and ``#number``, which counts the captions of the image."""

    def sniff(self, head: str) -> bool:
        lines = [line for line in head.split("\n") if line.strip()]
        return 2 * sum(map(is_token_line, lines)) > len(lines) and not looks_like_coco_cn(head)

    def read(self, source: CaptionSource, rows: TableBuilder) -> None:
        for number, line in enumerate(text_lines(source.path), 1):
            match = _LINE.fullmatch(line)
            if match:
                name = match["image"]  # file names lose their #number later, unless there is a file that is called so
                rows.add(number, name if is_file_name(name) else CAPTION_ID.sub("", name), match["caption"])
            elif line.strip():
                rows.skip(WRONG_COLUMN_COUNT, "expected 'name#number <tab> caption'", number)
