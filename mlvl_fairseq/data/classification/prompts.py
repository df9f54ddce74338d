"""Templates of prompts: ``{}`` (or ``{c}``, as CLIP_benchmark's files have it) stands for the name of a class.

Templates are data: the place is replaced literally, and no other brace or sign in them means anything.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Sequence

from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.files import read_text
from mlvl_fairseq.json_files import parse_json, read_json

PLACES = ("{}", "{c}")
LISTS = Path(__file__).with_name("lists")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NAMES = "imagenet_names"  # lies there, too
READABLE = 60  # characters of a template in signatures


@dataclass
class _Lists:
    templates: Dict[str, List[str]]


def list_names() -> List[str]:
    """Lists of templates that come with the plugin."""
    return sorted(path.stem for path in LISTS.glob("*.json") if path.stem != _NAMES)


def fill(template: str, name: str) -> str:
    """The prompt of one class."""
    first, *others = [part for part in re.split(r"\{c?\}", template)]
    return name.join([first, *others])


def checked_templates(templates: Sequence[Any], path=None, unique: bool = True) -> List[str]:
    """Templates without space at their ends.

    Args:
        path: the file they are from. unique: the same one twice is an error.

    Raises:
        DataError: there is none, or one is no text, empty, or has no place for a name.
    """
    if not templates:
        raise DataError("no template is given: one is as 'photo of {}'", path)
    found: List[str] = []
    for template in templates:
        text = _CONTROL.sub(" ", template).strip() if isinstance(template, str) else ""
        if not text:
            raise DataError("an empty template: one is as 'photo of {}'", path)
        if not any(place in text for place in PLACES):
            raise DataError(f"template {text!r} has no place for the class: write {{}} there", path)
        if unique and text in found:
            raise DataError(f"template {text!r} is given twice", path)
        found.append(text)
    return found


def read_templates(source: str, lang: str, lists: Sequence[str]) -> List[str]:
    """Templates of a list that comes with the plugin, or of a file.

    Args:
        source: the list's name; or a file: a template a line, or JSON, a list or ``{LANGUAGE or DATA SET: [...]}``.
        lang: language of the prompts. lists: names that the data set has in such lists, the best one first.

    Raises:
        UserError: the list has none for this data set.
        DataError: the file is missing, or holds none for this language, or not what it should.
    """
    if source in list_names():
        content = read_json(LISTS / f"{source}.json", _Lists, advice="install the plugin again").templates
        for name in lists:
            if name in content:
                return checked_templates(content[name], f"--templates {source}")
        some = ", ".join(content)
        raise UserError(f"--templates {source} has none for this data set, but for {some}; give a file or --template")
    text = read_text(source, f"give a file, or one of the lists {', '.join(list_names())}").removeprefix("\ufeff")
    if text.lstrip()[:1] not in ("[", "{") or text.lstrip().startswith(PLACES):
        return checked_templates([line for line in text.split("\n") if line.strip()], source, unique=False)
    content = parse_json(text.encode(), Any, source, "or write a template a line")
    if isinstance(content, dict):
        entries = {key.lower(): key for key in content}
        wanted = [entries[name.lower()] for name in (lang, *lists) if name.lower() in entries]
        if not wanted:
            some = ", ".join(sorted(content)[:10])
            raise DataError(f"has no templates of language '{lang}' (but of {some})", source)
        content = content[wanted[0]]
    if not isinstance(content, list):
        raise DataError("expected a list of templates", source)
    return checked_templates(content, source, unique=False)


def prompts_key(templates: Sequence[str], names: Sequence[str]) -> str:
    """What signatures say of prompts: 12 hexadecimal digits that change with any template, name or order, and the
    template, or how many they are."""
    digest = hashlib.sha256()
    for part in (*templates, "", *names):
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    shown = re.sub(r"[|\r\n]", " ", templates[0])
    shown = shown if len(shown) <= READABLE else f"{shown[:READABLE]}..."
    return f"{digest.hexdigest()[:12]} ({shown if len(templates) == 1 else f'{len(templates)} templates'})"
