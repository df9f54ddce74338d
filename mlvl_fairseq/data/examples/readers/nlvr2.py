"""Statements about two pictures as X-VLM's NLVR2 files have them (Suhr et al. 2019), and MaRVL's made like these."""

from typing import Any, Optional

from mlvl_fairseq.data.captions.json_rows import iter_list, outline, type_name
from mlvl_fairseq.data.captions.lines import raw_lines
from mlvl_fairseq.data.captions.table import MISSING_IMAGE, WRONG_TYPE
from mlvl_fairseq.data.examples.base import ExampleReader, register_example_reader

CLASSES = ("False", "True")
_TEXT, _LABEL, _IMAGES = "sentence", "label", "images"


@register_example_reader("nlvr2")
class Nlvr2Reader(ExampleReader):
    """``[{"sentence": "...", "label": "True", "images": ["a.png", "b.png"]}, ...]``; labels may also be true and
    false."""

    classes = CLASSES
    images_per_text = 2
    layouts = ("nlvr2/{image}", "{image}", "{below}")

    def sniff(self, head: str) -> bool:
        return {f"[].{_TEXT}", f"[].{_IMAGES}[]"} <= outline(head)

    def read(self, path, rows):
        for line, row in enumerate(iter_list("".join(raw_lines(path)), path), 1):
            found = rows.fields(row, line, **{_TEXT: str, _LABEL: object, _IMAGES: list})
            if not found:
                continue
            names = [name for name in found[_IMAGES] if isinstance(name, str) and name.strip()]
            label = as_label(found[_LABEL])
            if len(names) != 2 or len(found[_IMAGES]) != 2:
                rows.skip(MISSING_IMAGE, f"names {len(names)} of two images", line, _IMAGES)
            elif label is None:
                rows.skip(WRONG_TYPE, f"expected true or false, found {type_name(found[_LABEL])}", line, _LABEL)
            else:
                rows.add(line, [{"image": name} for name in names], found[_TEXT], _TEXT, label, id=row.get("id"))


def as_label(value: Any) -> Optional[str]:
    """``True`` and ``"True"`` -> ``"True"``; None: it is no label."""
    return str(value) if isinstance(value, (bool, str)) else None
