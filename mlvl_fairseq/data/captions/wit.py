"""Pictures for IGLUE's lists of WIT, out of the tables of pixels that Wikimedia has published at Kaggle."""

import base64
import binascii
import contextlib
import hashlib
import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from tqdm import tqdm

from mlvl_fairseq.data.captions.json_rows import iter_lines
from mlvl_fairseq.data.captions.lines import text_lines
from mlvl_fairseq.data.data_files import is_data
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.files import atomic_path, require_file

logger = logging.getLogger(__name__)

URL, CAPTION, CONTENT = "image_url", "caption_reference_description", "image_content"
PICTURES = "images"  # folder of the pictures
_SCHEMES = {"http://": "https://", "https://": "http://"}


def picture_name(url: str) -> str:
    """Path of the picture of a URL below the folder that :func:`add_pixels` writes; its type is told by content."""
    return f"{PICTURES}/{hashlib.sha256(url.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}.jpg"


def other_scheme(url: str) -> Optional[str]:
    """The same address with https for http, or http for https; None: it has neither."""
    for scheme, other in _SCHEMES.items():
        if url.startswith(scheme):
            return other + url[len(scheme) :]
    return None


@dataclass
class Joined:
    """What came of lists and tables.

    Attributes:
        files: what was written. lines, without: lines with pixels, and those left out, which have none.
        images: URLs with pixels. other_scheme: those of them whose pixels are under http, not https, or the other way.
        damaged: rows of the tables that hold no base64.
    """

    files: List[Path] = field(default_factory=list)
    lines: int = 0
    without: int = 0
    images: int = 0
    other_scheme: int = 0
    damaged: int = 0

    def summary(self) -> str:
        return (
            f"{self.lines:,} lines of {self.images:,} images; {self.without:,} lines left out, which have no pixels; "
            f"{self.other_scheme:,} images by the other of http and https; {self.damaged:,} damaged rows of pixels"
        )


def add_pixels(annotations: Sequence, pixels: Sequence, out, exact_urls: bool = False) -> Joined:
    """Write lists of WIT, and the pictures that they name.

    Args:
        annotations: JSON lines; those with ``image_content`` bring their pictures with them.
        pixels: tables, tab separated, URL and base64 of the picture in the first two columns, plain or gzip; or
            folders of such.
        out: folder; ``images/`` and a list by the name of each annotation file are written there, of the lines whose
            picture is known, in their order.
        exact_urls: as published: http and https are different addresses. By default a picture under the other is taken
            where there is none under the one; how many is told.

    Raises:
        UserError: files do not go together. DataError: a file is missing or damaged, or no picture is found.
    """
    out, result, rows = Path(out), Joined(), _by_url(annotations)
    (out / PICTURES).mkdir(parents=True, exist_ok=True)
    under_other: Dict[str, bool] = {}  # URL with a picture -> whether that is the other scheme's
    for url, content in _pictures(annotations, pixels):
        for target in (url, None if exact_urls else other_scheme(url)):
            if target not in rows or target in under_other and (target != url or not under_other[target]):
                continue
            picture = _decoded(content)
            if picture is None:
                result.damaged += 1
                break
            with atomic_path(out / picture_name(target)) as temporary:
                temporary.write_bytes(picture)
            under_other[target] = target != url
    result.images, result.other_scheme = len(under_other), sum(under_other.values())
    for path in annotations:
        with _list(out, path, result) as write:
            for row in _lines(path):
                if row[URL] in under_other:
                    write({key: value for key, value in row.items() if key != CONTENT})
                else:
                    result.without += 1
    return _checked(result, annotations, rows)


def embed_pixels(annotations: Sequence, pixels: Sequence, out) -> Joined:
    """The lists that CCLM's published code makes: ``image_content`` in every line, lines in the order of the tables,
    http and https different addresses. See :func:`add_pixels`."""
    out, result, rows, seen = Path(out), Joined(), _by_url(annotations), set()
    out.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        writes = {_name(path): stack.enter_context(_list(out, path, result)) for path in annotations}
        for url, content in _pictures((), pixels):
            if url not in rows or url in seen:
                continue
            if _decoded(content) is None:
                result.damaged += 1
                continue
            seen.add(url)
            for name, row in rows[url]:
                writes[name]({**row, CONTENT: content})
    result.images = len(seen)
    result.without = sum(len(found) for url, found in rows.items() if url not in seen)
    return _checked(result, annotations, rows)


def _by_url(annotations: Sequence) -> Dict[str, List[Tuple[str, Dict[str, Any]]]]:
    """URL -> the lines of it: the name of the file, and the line without a picture."""
    names = [_name(path) for path in annotations]
    if len(set(names)) < len(names):
        raise UserError("two of the annotation files have one name: convert them one after the other")
    found: Dict[str, List[Tuple[str, Dict[str, Any]]]] = {}
    for path, name in zip(annotations, names):
        for row in _lines(path):
            found.setdefault(row[URL], []).append((name, {key: row[key] for key in row if key != CONTENT}))
    return found


def _name(path) -> str:
    """Of a list, as it is written: not packed, ``train_en.jsonl`` of ``train_en.jsonl.zip``."""
    return Path(path).name.removesuffix(".zip").removesuffix(".gz")


def _lines(path) -> Iterator[Dict[str, Any]]:
    def wrong(kind: str, why: str, line: int) -> None:
        raise DataError(why, path, line)

    for line, row in iter_lines(path, wrong):
        if not isinstance(row, dict) or not isinstance(row.get(URL), str):
            raise DataError("is missing, or no string", path, line, URL)
        yield {**row, URL: row[URL].strip()}


def _pictures(annotations: Sequence, pixels: Sequence) -> Iterator[Tuple[str, str]]:
    """URL and base64 of every picture, those of the annotations first.

    Raises:
        UserError: there are none. DataError: a table is damaged.
    """
    tables = _tables(pixels)
    within = 0
    for path in annotations:
        for row in _lines(path):
            if isinstance(row.get(CONTENT), str):
                within += 1
                yield row[URL], row[CONTENT]
    if not tables and not within:
        raise UserError("say with --pixels where the tables of pictures are: these annotations have none in them")
    for path in tables:
        for line, text in enumerate(tqdm(text_lines(path), desc=path, unit="row"), 1):
            cells = text.split("\t")
            if len(cells) < 2:
                raise DataError("is no row of a URL and base64 with a tab between them", path, line)
            yield cells[0].strip().strip('"'), cells[1].strip().strip('"')


def _tables(pixels: Sequence) -> List[str]:
    found: List[str] = []
    for path in map(str, pixels):
        if os.path.isdir(path):
            files = sorted(entry.path for entry in os.scandir(path) if entry.is_file() and is_data(entry.path))
            if not files:
                raise UserError(f"--pixels {path}: there is no table in this folder")
            found += files
        else:
            require_file(path)
            found.append(path)
    return found


def _decoded(content: str) -> Optional[bytes]:
    """None: it is no base64, or of nothing."""
    try:
        return base64.b64decode(content, validate=True) or None
    except (binascii.Error, ValueError):
        return None


@contextlib.contextmanager
def _list(out: Path, path, result: Joined) -> Iterator[Callable[[Dict[str, Any]], None]]:
    """What writes lines of a list, which is there once all are written."""
    target = out / _name(path)
    if target.exists() and os.path.samefile(target, path):
        raise UserError(f"{target} is read: choose another folder to write to")
    with atomic_path(target) as temporary, open(temporary, "w", encoding="utf-8", errors="surrogatepass") as file:

        def write(row: Dict[str, Any]) -> None:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            result.lines += 1

        yield write
        file.flush()
    result.files.append(target)


def _checked(result: Joined, annotations: Sequence, rows) -> Joined:
    if not result.images:
        raise DataError(f"none of its {len(rows):,} images is in the tables of pixels", str(annotations[0]))
    logger.info("%s", result.summary())
    return result
