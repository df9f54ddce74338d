"""COCO-CN (Li et al. 2019): Chinese captions of MS-COCO's pictures, ``imageid.human-written-caption.txt``."""

import re

from mlvl_fairseq.data.captions.lines import text_lines
from mlvl_fairseq.data.captions.reading import CaptionReader, CaptionSource, register_reader
from mlvl_fairseq.data.captions.table import NO_CAPTION, WRONG_COLUMN_COUNT, TableBuilder

_NAME = r"COCO_[a-z]+\d{4}_\d{12}"
_LINE = re.compile(rf"(?P<image>{_NAME})#(?:[A-Za-z]\w*#)?\d+[\t ]+(?P<caption>.*)")
_LISTED = re.compile(rf"({_NAME})(\.\w+)?")


def looks_like_coco_cn(head: str) -> bool:
    lines = [line for line in head.split("\n") if line.strip()]
    return 2 * sum(_LINE.match(line) is not None for line in lines) > len(lines)


@register_reader("coco_cn")
class CocoCnReader(CaptionReader):
    """``COCO_val2014_000000000042#0 <tab> caption`` a line, all splits in one file: the picture's name is without its
    ending, ``.jpg``. An image list, ``coco-cn_train.txt`` and the like, says which ones there are."""

    companions = frozenset({"image_list"})

    def sniff(self, head: str) -> bool:
        return looks_like_coco_cn(head)

    def read(self, source: CaptionSource, rows: TableBuilder) -> None:
        listed = None if source.image_list is None else _listed(source.image_list)
        waiting = dict(listed or {})
        for number, line in enumerate(text_lines(source.path), 1):
            match = _LINE.fullmatch(line)
            if not match:
                if line.strip():
                    rows.skip(WRONG_COLUMN_COUNT, "expected 'COCO_val2014_...#number <tab> caption'", number)
            elif listed is None or match["image"] in listed:
                waiting.pop(match["image"], None)
                rows.add(number, f"{match['image']}.jpg", match["caption"])
        for name, number in waiting.items():
            rows.skip(NO_CAPTION, f"'{name}' has no caption", number, "image", captions=0)


def _listed(path) -> dict[str, int]:
    """Names of an image list, without endings, and their lines."""
    matches = ((number, _LISTED.fullmatch(line.strip())) for number, line in enumerate(text_lines(path), 1))
    return {match[1]: number for number, match in matches if match}
