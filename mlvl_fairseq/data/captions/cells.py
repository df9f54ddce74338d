"""What a cell of a table holds, as far as its text tells, and what its columns are for.

Columns are typed: a URL, a picture's file name or an id is never a caption, whatever column it stands in.
"""

import re
from typing import Iterable, Mapping, Optional

from mlvl_fairseq.errors import UserError

ROLES = ("image", "caption", "english", "language")
OPTION = "--captions-columns"

_URL = re.compile(r"(?:https?|ftp)://\S+", re.IGNORECASE)
_FILE = re.compile(
    r"[^\t\n]*[^\t\n./\\]\.(?:jpe?g|jpe|jfif|png|gif|bmp|webp|tiff?|p[bgnp]m|svg|heic|avif)(?:#(?:\w+#)?\d+)?",
    re.IGNORECASE,
)
_ID = re.compile(r"\d+|[!-~]*\d{3}[!-~]*|(?=[a-f]*\d)[0-9a-f]{8,}", re.IGNORECASE | re.ASCII)
_LONGEST_ID = 200
CAPTION_ID = re.compile(r"#(?:[A-Za-z]\w*#)?\d+$")  # results.token: name.jpg#0; Flickr8k-CN: name.jpg#zhc#0


def is_url(cell: str) -> bool:
    return _URL.fullmatch(cell) is not None


def is_file_name(cell: str) -> bool:
    """The name of a picture's file, perhaps with spaces, perhaps with a caption id (``a.jpg#0``) behind it."""
    return _FILE.fullmatch(cell) is not None and not is_url(cell)


def is_id(cell: str) -> bool:
    """A number, or one word with many digits: ``17``, ``img_0017``, ``000411001ff7dd4f``."""
    return len(cell) <= _LONGEST_ID and _ID.fullmatch(cell) is not None


def no_caption(cell: str) -> Optional[str]:
    """Why a text cannot be a caption, or None."""
    if " " in cell:  # true of most captions, and quickly told
        return None
    if is_url(cell):
        return "is a URL, no caption"
    return "is a file name, no caption" if is_file_name(cell) else None


def most(cells: Iterable[str], holds) -> bool:
    """Are more than half of the cells that are not empty such that ``holds(cell)``?"""
    filled = [cell for cell in map(str.strip, cells) if cell]
    return 2 * sum(map(holds, filled)) > len(filled)


def parse_columns(text: Optional[str]) -> dict[str, str]:
    """``"image=2,caption=1"`` -> ``{"image": "2", "caption": "1"}``; None -> nothing.

    Raises:
        UserError: a part is of another form, or image or caption is not said.
    """
    if text is None:
        return {}
    places: dict[str, str] = {}
    for part in text.split(","):
        role, _, place = (piece.strip() for piece in part.partition("="))
        if role not in ROLES or not place or role in places:
            raise UserError(f"{OPTION} '{text}': write image=2,caption=1 (or names of columns or fields); {_KNOWN}")
        places[role] = place
    for role in ROLES[:2]:
        if role not in places:
            raise UserError(f"{OPTION} '{text}' does not say where the {role} is; write image=2,caption=1")
    return places


_KNOWN = f"there are {', '.join(ROLES)}"

# Names that publishers give to columns and fields. Files come before URLs; `image` and `caption` before their like.
IMAGE_NAMES = (
    ("image",),
    ("img_path", "image_path", "file_name", "filename", "filepath", "image_name", "image_file", "img", "file", "path"),
    ("image_url", "url", "img_url", "link"),
)
CAPTION_NAMES = (
    ("caption",),
    ("captions", "sentences", "sentence", "text", "texts", "description", "comment", "target"),
    ("caption_reference_description",),
)
ENGLISH_NAMES = (("english",), ("english_caption",))
LANGUAGE_NAMES = (("language", "lang"),)
NAMES: Mapping[str, tuple[tuple[str, ...], ...]] = dict(
    zip(ROLES, (IMAGE_NAMES, CAPTION_NAMES, ENGLISH_NAMES, LANGUAGE_NAMES))
)
_ID_NAMES = {"id", "image_id", "img_id", "key", "name", "caption_id", "comment_number", "index", "split"}
_WORDS = {name for tiers in NAMES.values() for tier in tiers for name in tier} | _ID_NAMES


def is_header_word(cell: str) -> bool:
    return plain_name(cell) in _WORDS


def plain_name(name: str) -> str:
    """``Image Name`` -> ``image_name``."""
    return re.sub(r"[\s-]+", "_", name.strip().strip("\"'").lower())


def find_role(role: str, names: Iterable[str]) -> list[str]:
    """The names that a role may have, of the first kind of which any is there; more than one are for the user to
    choose from."""
    plain = {plain_name(name): name for name in names}
    for tier in NAMES[role]:
        found = [plain[name] for name in tier if name in plain]
        if found:
            return found
    return []
