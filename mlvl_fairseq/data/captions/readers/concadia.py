"""Concadia's ``wiki_split.json`` (Kreiss et al. 2022): Wikipedia's pictures with a description and a caption each."""

from typing import Any

from mlvl_fairseq.data.captions.cells import parse_columns
from mlvl_fairseq.data.captions.json_rows import load_object, type_name
from mlvl_fairseq.data.captions.readers.karpathy import chosen_splits, has_one_text, looks_like_karpathy
from mlvl_fairseq.data.captions.reading import CaptionReader, CaptionSource, register_reader
from mlvl_fairseq.data.captions.table import MISSING_FIELD, WRONG_TYPE, TableBuilder


@register_reader("concadia")
class ConcadiaReader(CaptionReader):
    """``images``: ``filename``, ``split``, ``description`` and ``caption`` with the text as ``raw``. The description is
    read, which stands for the picture; ``--captions-columns image=filename,caption=caption`` reads the caption."""

    unit = "row"
    has_splits = True
    has_columns = True

    def sniff(self, head: str) -> bool:
        return looks_like_karpathy(head) and has_one_text(head)

    def read(self, source: CaptionSource, rows: TableBuilder) -> None:
        given = parse_columns(source.columns)
        name, text = given.get("image", "filename"), given.get("caption", "description")
        images = load_object(source.path, ("images",), "Concadia's")["images"]
        chosen = chosen_splits(source, images)
        for number, image in enumerate(images, 1):
            if isinstance(image, dict) and str(image.get("split")) not in chosen:
                continue
            if not isinstance(image, dict):
                rows.skip(WRONG_TYPE, f"expected an object, found {type_name(image)}", number, "images")
            elif not isinstance(image.get(name), str):
                rows.skip(MISSING_FIELD, f"image without '{name}'", number, "images")
            elif not isinstance(_raw(image.get(text)), str):
                rows.skip(MISSING_FIELD, f"'{image[name]}' has no text '{text}.raw'", number, "images")
            else:
                rows.add(number, image[name], _raw(image[text]))


def _raw(value: Any) -> Any:
    return value.get("raw") if isinstance(value, dict) else value
