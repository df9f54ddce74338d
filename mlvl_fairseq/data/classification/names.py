"""Names of classes from files: one for each class, or, in any language, for as many as the file has.

Names of all classes (``--names``): text with a line ``CLASS<TAB>NAME`` for each, or ``nXXXXXXXX name`` where classes
are wnids (ImageNet-A's README.txt; other lines are left out), or a name a line in the order of the classes; or JSON, a
list in their order or an object. CLASS is a folder's name, or what the data set calls its classes.

Labels (``--labels``), JSON: ``{LANGUAGE: [[numbers], [names]]}`` as Babel-ImageNet has them, ``{LANGUAGE: [names]}`` of
all classes, or ``{LANGUAGE: {CLASS: name}}``; instead of the language the file may name the data set (``imagenet1k``),
as those of CLIP_benchmark do. Classes without a label are left out, with their images.
"""

import logging
import re
from collections import Counter
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import read_text
from mlvl_fairseq.json_files import parse_json

logger = logging.getLogger(__name__)

_WNID_LINE = re.compile(r"(n\d{8})[\s:]+(\S.*)")
_WNID = re.compile(r"n\d{8}")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
EXAMPLES = 3  # named in messages
_ADVICE = "see --help for what such a file holds"


class Labels(NamedTuple):
    """Classes that have a label, ascending, and their names."""

    classes: List[int]
    names: List[str]


def read_names(path, keys: Sequence[str]) -> List[str]:
    """The name of every class, in the order of `keys`.

    Raises:
        DataError: the file is missing or no text, lacks a class or names one twice, or a name is empty.
    """
    text = read_text(path)
    if text.lstrip("\ufeff \t\r\n")[:1] in ("{", "["):
        content = parse_json(text.encode(), Any, path, _ADVICE)
        pairs = dict(zip(keys, _of_all(content, keys, path))) if isinstance(content, list) else content
    else:
        pairs = _pairs_of_lines(text.removeprefix("\ufeff"), keys, path)
    missing = [key for key in keys if key not in pairs]
    if missing:
        examples = ", ".join(map(repr, missing[:EXAMPLES]))
        raise DataError(f"has no name for {len(missing)} of {len(keys)} classes, such as {examples}", path)
    names = [_name(pairs[key], key, path) for key in keys]
    tell_of_equal_names(names, path)
    return names


def _pairs_of_lines(text: str, keys: Sequence[str], path) -> Dict[str, str]:
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if all(_WNID.fullmatch(key) for key in keys):
        found = [(number, _WNID_LINE.fullmatch(line)) for number, line in lines]
        return _unique([(number, *match.groups()) for number, match in found if match], path)
    if any("\t" in line for _, line in lines):
        without = [number for number, line in lines if "\t" not in line]
        if without:
            raise DataError("has no tab between class and name, as other lines have", path, without[0])
        return _unique([(number, *map(str.strip, line.split("\t", 1))) for number, line in lines], path)
    return dict(zip(keys, _of_all([line for _, line in lines], keys, path)))


def _unique(rows: Sequence[Tuple[int, str, str]], path) -> Dict[str, str]:
    pairs: Dict[str, str] = {}
    for number, key, name in rows:
        if key in pairs:
            raise DataError(f"names class {key!r} a second time", path, number)
        pairs[key] = name
    return pairs


def _of_all(names: List[Any], keys: Sequence[str], path) -> List[Any]:
    if len(names) != len(keys):
        raise DataError(f"holds {len(names)} names for {len(keys)} classes; give one each, or name the classes", path)
    return names


def _name(value: Any, key, path) -> str:
    name = _CONTROL.sub(" ", value).strip() if isinstance(value, str) else ""
    if not name:
        raise DataError(f"class {key!r} has no name that is text", path)
    return name


def tell_of_equal_names(names: Sequence[str], path) -> None:
    """Warn of classes that no prompt can tell apart."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        examples = ", ".join(map(repr, twice[:EXAMPLES]))
        logger.warning(
            "%s: %d names are those of several classes, of which the first wins: %s", path, len(twice), examples
        )


def read_labels(path, lang: str, keys: Sequence[str], numbers: Sequence[int], lists: Sequence[str] = ()) -> Labels:
    """The labels of one language.

    Args:
        keys, numbers: of the data set's classes. lists: names that the data set has in such files.

    Raises:
        DataError: the file is missing or no JSON, has no labels of this language or of the data set, or they are not
            as they should be; or fewer than two classes have one.
    """
    content = parse_json(read_text(path).encode(), Dict[str, Any], path, _ADVICE)
    entries = {key.lower(): key for key in content}
    wanted = [name.lower() for name in (lang, *lists) if name.lower() in entries]
    if not wanted:
        some = ", ".join(sorted(content)[:10])
        raise DataError(f"has no labels of language '{lang}' (but of {some})", path)
    field = entries[wanted[0]]
    found = _labels(content[field], keys, numbers, path, field)
    if len(found) < 2:
        raise DataError(f"has labels for {len(found)} of the data set's {len(keys)} classes", path, field=field)
    if len(found) < len(keys):
        logger.info("%s: %d of %d classes have a label in '%s'", path, len(found), len(keys), field)
    classes = sorted(found)
    names = [_name(found[one], keys[one], path) for one in classes]
    tell_of_equal_names(names, f"{path} ({field})")
    return Labels(classes, names)


def _labels(value: Any, keys: Sequence[str], numbers: Sequence[int], path, field: str) -> Dict[int, Any]:
    """Position of a class -> its label. What the data set does not have is left out."""
    if isinstance(value, dict):
        position = {key: row for row, key in enumerate(keys)}
        return {position[key]: label for key, label in value.items() if key in position}
    if not isinstance(value, list):
        raise DataError(f"expected lists or an object; {_ADVICE}", path, field=field)
    if len(value) != 2 or not all(isinstance(part, list) for part in value):
        return dict(enumerate(_of_all(value, keys, path)))
    indices, labels = value
    if len(indices) != len(labels) or not all(type(index) is int and index >= 0 for index in indices):
        raise DataError(f"{len(indices)} class numbers do not fit {len(labels)} labels", path, field=field)
    if len(set(indices)) < len(indices):
        raise DataError("a class number occurs twice", path, field=field)
    position = {number: row for row, number in enumerate(numbers)}
    return {position[index]: label for index, label in zip(indices, labels) if index in position}
