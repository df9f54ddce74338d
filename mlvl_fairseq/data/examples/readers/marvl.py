"""MaRVL (Liu et al. 2021) as IGLUE has it: statements about two pictures, of other cultures, in their languages."""

import re
from pathlib import PurePath
from typing import Any, Dict, Optional

from mlvl_fairseq.data.captions.json_rows import iter_lines, object_lines, outline, type_name
from mlvl_fairseq.data.captions.table import MISSING_IMAGE, WRONG_TYPE
from mlvl_fairseq.data.examples.base import ExampleReader, register_example_reader
from mlvl_fairseq.data.examples.readers.nlvr2 import CLASSES, as_label

ZERO_SHOT = "marvl-images/{lang}/images/{concept}/{image}"
FEW_SHOT = "marvl_fewshot/{lang}/all/{name}"  # names come with a folder that is not there
IMAGES = ("left_img", "right_img")
_TEXT, _LABEL = "caption", "label"
_FILE = re.compile(r"marvl-([a-z]{2,3})(_train\w+)?\.\w+")


@register_example_reader("marvl")
class MarvlReader(ExampleReader):
    """``{"concept": "39-Panci", "language": "id", "caption": "...", "left_img": "39-0.jpg", "right_img": "39-11.jpg",
    "label": true, ...}``. The language is that of the file's name, ``marvl-id.jsonl``, else of the field."""

    classes = CLASSES
    images_per_text = 2
    layouts = (ZERO_SHOT, FEW_SHOT, "{lang}/images/{concept}/{image}", "{lang}/all/{name}", "{image}")

    def sniff(self, head: str) -> bool:
        objects, wanted = object_lines(head), {_TEXT, *IMAGES}
        return any(wanted <= value.keys() for value in objects) if objects else wanted <= outline(head)

    def read(self, path, rows):
        known = rows.lang or language_of(path)
        for line, row in iter_lines(path, rows.skip):
            found = rows.fields(row, line, **{_TEXT: str, _LABEL: object})
            if not found:
                continue
            images, label = image_fields(row, known), as_label(found[_LABEL])
            absent = [name for name in IMAGES if not isinstance(row.get(name), str) or not row[name].strip()]
            if absent:
                rows.skip(MISSING_IMAGE, "names no image", line, absent[0])
            elif label is None:
                rows.skip(WRONG_TYPE, f"expected true or false, found {type_name(found[_LABEL])}", line, _LABEL)
            else:
                lang = images[0]["lang"] or None
                rows.add(line, images, found[_TEXT], _TEXT, label, id=row.get("id"), lang=lang)


def language_of(path) -> Optional[str]:
    """``.../marvl-id_train10x2.jsonl`` -> ``id``; None: the file's name does not say it."""
    found = _FILE.fullmatch(PurePath(path).name)
    return found and found[1]


def is_few_shot(path) -> bool:
    """Whether a file's name is that of a few-shot training set."""
    found = _FILE.fullmatch(PurePath(path).name)
    return bool(found and found[2])


def image_fields(row: Dict[str, Any], lang: Optional[str]) -> list:
    """What the names of a row's images are made of."""
    shared = {"lang": lang or str(row.get("language", "")), "concept": str(row.get("concept", ""))}
    return [{**shared, "image": str(row.get(name, ""))} for name in IMAGES]
