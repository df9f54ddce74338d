"""Karpathy's ``dataset_coco.json``, ``dataset_flickr8k.json``, ``dataset_flickr30k.json``: all splits in one file."""

import logging
from collections import Counter
from typing import Any, Optional

from mlvl_fairseq.data.captions.json_rows import load_object, outline
from mlvl_fairseq.data.captions.reading import CaptionReader, CaptionSource, register_reader
from mlvl_fairseq.data.captions.table import MISSING_FIELD, NO_CAPTION, TableBuilder
from mlvl_fairseq.errors import UserError

logger = logging.getLogger(__name__)

SPLIT_OPTION = "--captions-split"
# COCO has a fourth split, what its validation set has beyond 10,000 images: it belongs to training, as usual.
_SPLITS = {"train": ("train", "restval"), "valid": ("val",), "val": ("val",), "dev": ("val",), "test": ("test",)}


def looks_like_karpathy(head: str) -> bool:
    """Has the first image of a list ``images`` its sentences or its split within it?"""
    keys = outline(head)
    return bool({"images[].sentences", "images[].sentids", "images[].split"} & keys)


def has_one_text(head: str) -> bool:
    """Has the first image a description and a caption, as Concadia's, instead of a list of sentences?"""
    return bool({"images[].description", "images[].caption"} & outline(head))


@register_reader("karpathy")
class KarpathyReader(CaptionReader):
    """``images``: ``filename``, ``sentences`` with the caption as ``raw``, ``split``; in COCO's file also ``filepath``,
    the folder, which is part of the image's name. The split ``train`` is their ``train`` and ``restval``."""

    unit = "row"
    has_splits = True

    def sniff(self, head: str) -> bool:
        return looks_like_karpathy(head) and not has_one_text(head)

    def read(self, source: CaptionSource, rows: TableBuilder) -> None:
        images = load_object(source.path, ("images",), "Karpathy's splits")["images"]
        chosen = chosen_splits(source, images)
        for number, image in enumerate(images, 1):
            if str(_field(image, "split")) in chosen:
                _add(image, number, rows)


def chosen_splits(source: CaptionSource, images: list) -> list[str]:
    """The names that the splits asked for have in a file's images; how many images they have is told.

    Raises:
        UserError: no split is asked for, or there is none of the name.
    """
    counts = Counter(str(_field(image, "split")) for image in images)
    chosen = _chosen(source, counts)
    told = ", ".join(f"{counts[name]:,} of '{name}'" for name in chosen)
    others = ", ".join(f"{count:,} of '{name}'" for name, count in counts.items() if name not in chosen)
    logger.info("%s: images %s%s", source.path, told, f"; not {others}" if others else "")
    return chosen


def _chosen(source: CaptionSource, counts: Counter) -> list[str]:
    there = ", ".join(counts)
    if source.file_splits:
        names = [name.strip() for name in source.file_splits.split(",")]
        missing = [name for name in names if name not in counts]
        if missing:
            raise UserError(f"{source.path}: {SPLIT_OPTION} {', '.join(missing)}: its splits are {there}")
        return names
    if source.split is None:
        raise UserError(f"{source.path} holds the splits {there}: say which, {SPLIT_OPTION}")
    names = [name for name in _SPLITS.get(source.split, (source.split,)) if name in counts]
    if not names:
        raise UserError(f"{source.path} has no split '{source.split}', but {there}: say which, {SPLIT_OPTION}")
    return names


def _add(image: Any, number: int, rows: TableBuilder) -> None:
    name, folder, sentences = (_field(image, field) for field in ("filename", "filepath", "sentences"))
    if not isinstance(name, str) or not isinstance(sentences, list):
        rows.skip(MISSING_FIELD, "image without filename or sentences", number, "images")
        return
    if isinstance(folder, str) and folder:
        name = f"{folder}/{name}"
    if not sentences:
        rows.skip(NO_CAPTION, f"'{name}' has no caption", number, "sentences", captions=0)
    for sentence in sentences:
        caption = _field(sentence, "raw")
        if isinstance(caption, str):
            rows.add(number, name, caption)
        else:
            rows.skip(MISSING_FIELD, f"a sentence of '{name}' has no text 'raw'", number, "sentences")


def _field(entry: Any, name: str) -> Optional[Any]:
    return entry.get(name) if isinstance(entry, dict) else None
