"""XTD10 as LilT trains and evaluates on it: sixteen JSON files, byte for byte those of its ``process_xtd10.py``."""

import json
import os
from pathlib import Path
from typing import Iterator

from mlvl_fairseq.data.captions.readers.aligned import aligned_lines
from mlvl_fairseq.data.captions.readers.xtd10 import caption_file
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.files import write_text

IMAGE_NAMES = "test_image_names.txt"
LILT_LANGUAGES = ("es", "it", "ko", "pl", "ru", "tr", "zh")
_VAL_FOLDER = "val2014"


def write_lilt_files(xtd10, coco_train: str, output) -> Iterator[str]:
    """Write ``train.json`` and ``val.json`` of all seven languages, and ``train_LANG.json`` and ``val_LANG.json``.

    Training files have a row a caption, with the image's path under `coco_train`; validation files a row an image, with
    its path from the root of COCO 2014 (``val2014/...``) and a list of captions: one, or one of each language.

    Args:
        xtd10: folder with ``test_image_names.txt`` and ``test_1kcaptions_LANG.txt``, as published.
        coco_train: folder of COCO's ``train2014`` pictures, written into the files as it is.
        output: folder; made if it is not there.

    Yields:
        what was written, in words, as the published script prints it.

    Raises:
        UserError: `xtd10` has no list of images. DataError: captions are missing, or not as many as images, or no text.
    """
    names = Path(xtd10) / IMAGE_NAMES
    if not names.is_file():
        raise UserError(f"{xtd10} has no {IMAGE_NAMES}: give the folder XTD10 of the published data set")
    paths = [str(names), *(str(caption_file(names, lang)) for lang in LILT_LANGUAGES)]
    train, val = [], []
    for number, (image, *captions) in enumerate(aligned_lines(paths), 1):
        image, captions = image.strip(), [caption.strip() for caption in captions]
        for text, path in zip((image, *captions), paths):
            if not text or any("\ud800" <= letter <= "\udfff" for letter in text):
                raise DataError("is empty" if not text else "is not valid UTF-8", path, number)
        if "train" in image:
            train.append((os.path.join(coco_train, image), captions))
        if "val" in image:
            val.append((f"{_VAL_FOLDER}/{image}", captions))
    Path(output).mkdir(parents=True, exist_ok=True)
    yield _write(output, "train", [_row(image, text) for image, texts in train for text in texts], "training records")
    yield _write(output, "val", [_row(image, texts) for image, texts in val], "validation records")
    for column, lang in enumerate(LILT_LANGUAGES):
        rows = [_row(image, [texts[column]]) for image, texts in val]
        yield _write(output, f"val_{lang}", rows, f"validation records for {lang}")
        rows = [_row(image, texts[column]) for image, texts in train]
        yield _write(output, f"train_{lang}", rows, f"training records for {lang}")


def _row(image: str, caption) -> dict:
    return {"image": image, "caption": caption}


def _write(folder, name: str, rows: list[dict], what: str) -> str:
    write_text(Path(folder) / f"{name}.json", json.dumps(rows))  # ASCII, no line ends: as published
    return f"Wrote {len(rows)} {what}"
