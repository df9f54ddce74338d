"""XTD10 as published (Aggarwal and Kale 2020): ``test_image_names.txt`` beside a file of captions a language."""

import logging
import re
from collections import Counter
from pathlib import Path

from mlvl_fairseq.data.captions.readers.aligned import aligned_lines
from mlvl_fairseq.data.captions.reading import CaptionReader, CaptionSource, register_reader
from mlvl_fairseq.data.captions.table import MISSING_FIELD, TableBuilder
from mlvl_fairseq.errors import DataError, UserError

logger = logging.getLogger(__name__)

LANGUAGES = ("en", "de", "fr", "ja", "es", "it", "ko", "pl", "ru", "tr", "zh")
FOLDERS = (".", "../XTD10", "../MIC", "../STAIR")  # from the list of images: English, German and French are in MIC
_SUFFIXES = {"ja": ("ja", "jp")}
# LilT evaluates on the pictures of COCO's validation set, and lets the others be trained on.
SPLITS = {"all1000": ("train", "val"), "val200": ("val",), "train800": ("train",)}
_NAME = re.compile(r"COCO_(train|val)2014_\d{12}\.\w+")


@register_reader("xtd10")
class Xtd10Reader(CaptionReader):
    """The list of images is given; captions are line by line in ``test_1kcaptions_LANG.txt`` beside it, or in the
    folders ``MIC`` and ``STAIR`` beside its own. ``--captions-split`` chooses among ``all1000`` (default), ``val200``
    and ``train800``."""

    has_splits = True

    def sniff(self, head: str) -> bool:
        lines = [line.strip() for line in head.split("\n")]
        lines = [line for line in (lines[:-1] if len(lines) > 1 else lines) if line]
        return bool(lines) and all(map(_NAME.fullmatch, lines))

    def holds_languages(self, source: CaptionSource) -> bool:
        return True

    def read(self, source: CaptionSource, rows: TableBuilder) -> None:
        origins = origins_of(source.file_splits or "all1000")
        captions = caption_file(source.path, source.lang)
        rows.field_paths = {**rows.field_paths, "caption": str(captions)}
        counts: Counter = Counter()
        for number, (name, caption) in enumerate(aligned_lines([source.path, str(captions)]), 1):
            match = _NAME.fullmatch(name.strip())
            if match is None:
                rows.skip(MISSING_FIELD, f"'{name}' is no name of a picture of COCO 2014", number, "image")
                continue
            counts[match[1]] += 1
            if match[1] in origins:
                rows.add(number, name, caption)
        logger.info("%s: %s", source.path, ", ".join(f"{counts[origin]} of {origin}2014" for origin in counts))


def origins_of(split: str) -> tuple[str, ...]:
    """The parts of COCO 2014 that a split's images are from.

    Raises:
        UserError: there is no such split.
    """
    if split not in SPLITS:
        raise UserError(f"--captions-split {split}: XTD10 has {', '.join(SPLITS)}")
    return SPLITS[split]


def caption_file(image_names, lang) -> Path:
    """The captions of a language that belong to a list of images.

    Raises:
        DataError: there are none.
    """
    folder = Path(image_names).parent
    names = [f"test_1kcaptions_{suffix}.txt" for suffix in _SUFFIXES.get(lang, (lang,))]
    for place in FOLDERS:
        for name in names:
            if (folder / place / name).is_file():
                return folder / place / name
    where = "beside it or in MIC and STAIR beside its folder"
    raise DataError(f"has no captions in '{lang}': there is no {' or '.join(names)} {where}", image_names)
