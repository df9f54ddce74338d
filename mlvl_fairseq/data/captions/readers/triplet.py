"""Tab-separated lines ``image, English, target`` or ``image, target``: CLL-CLIP's training files."""

from collections import Counter
from itertools import chain, islice

from mlvl_fairseq.data.captions.reading import CaptionReader, CaptionSource, register_reader, text_lines
from mlvl_fairseq.data.captions.table import WRONG_COLUMN_COUNT, TableBuilder
from mlvl_fairseq.errors import DataError

_LAYOUTS = {2: "image, caption", 3: "image, English, caption"}
_HEAD_LINES = 1000


@register_reader("triplet")
class TripletReader(CaptionReader):
    """Every line has the column count, 2 or 3, that most of the first lines have; others are counted."""

    patterns = ("*.tsv", "*.tsv.gz")

    def sniff(self, head: str) -> bool:
        return head.count("\t") + 1 in _LAYOUTS

    def read(self, source: CaptionSource, rows: TableBuilder) -> None:
        lines = text_lines(source.path)
        head = list(islice(lines, _HEAD_LINES))
        width = _width(head, source.path)
        for number, line in enumerate(chain(head, lines), 1):
            columns = line.split("\t")
            if len(columns) != width:
                why = f"expected {width} tab-separated columns ({_LAYOUTS[width]}), found {len(columns)}"
                rows.skip(WRONG_COLUMN_COUNT, why, number)
            elif width == 2:
                rows.add(number, columns[0], columns[1])
            else:
                rows.add(number, columns[0], columns[2], columns[1])


def _width(head: list[str], path) -> int:
    counts = Counter(line.count("\t") + 1 for line in head)
    fitting = [(count, width) for width, count in counts.items() if width in _LAYOUTS]
    if not head:
        raise DataError("is empty", path)
    if not fitting:
        found = counts.most_common(1)[0][0]
        layouts = " or ".join(f"{width} ({names})" for width, names in _LAYOUTS.items())
        raise DataError(f"expected {layouts} tab-separated columns, found {found}", path, line=1)
    return max(fitting)[1]
