"""What a score was computed on and how, in one line: ``data:1f0c...|split:test|lang:de|...`` (the manner of sacreBLEU).

Two scores may be compared if their signatures are the same.
"""

import hashlib
from dataclasses import dataclass, field, fields
from typing import Dict, Iterable, List, Sequence

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.version import __version__

VARIOUS = "*"  # stands for more than one value in the signature of several scores


def _key(short: str, help: str, **options):
    return field(metadata={"short": short, "help": help}, **options)


@dataclass(frozen=True)
class Signature:
    """The key:value pairs of a retrieval score, in the order in which they are printed."""

    data: str = _key("d", "fingerprint of image names, captions and their order (data_fingerprint)")
    split: str = _key("s", "part of the data set, e.g. test")
    lang: str = _key("l", "language of the captions")
    images: int = _key("#i", "number of images")
    texts: int = _key("#t", "number of captions")
    tok: str = _key("tok", "how captions are cut into tokens, e.g. clip-bpe")
    maxlen: int = _key("len", "longest token sequence the text tower sees; longer captions are cut")
    precision: str = _key("p", "floating point format of the towers, e.g. fp32")
    folds: int = _key("f", "folds of images whose scores are averaged", default=1)
    captions: str = _key(
        "c",
        "which captions count for an image; 'any': its best ranked one among all; 'deduplicated': that among the best "
        "ones of distinct images",
        default="any",
    )
    ties: str = _key("tie", "order of equal scores: 'index' lets the smaller index win", default="index")
    version: str = _key("v", "version of mlvl_fairseq", default=__version__)

    def __post_init__(self):
        for key, value in self.items().items():
            if not value or set(value) & set("|\n"):
                raise UserError(f"signature: {key} may not be {value!r} (empty, or with '|' or a line break)")

    def items(self) -> Dict[str, str]:
        """Key -> value as printed."""
        return {entry.name: str(getattr(self, entry.name)) for entry in fields(self)}

    def __str__(self) -> str:
        """The long form."""
        return format_signature(self.items())

    def short(self) -> str:
        """The same with abbreviated keys."""
        short_keys = {entry.name: entry.metadata["short"] for entry in fields(self)}
        return format_signature({short_keys[key]: value for key, value in self.items().items()})


def format_signature(items: Dict[str, str]) -> str:
    """Key -> value as one line."""
    return "|".join(f"{key}:{value}" for key, value in items.items())


def parse_signature(text: str) -> Dict[str, str]:
    """The inverse of :func:`format_signature`; keys need not be those of this version.

    Raises:
        UserError: a part is no ``key:value`` pair.
    """
    items = {}
    for part in filter(None, text.split("|")):
        key, colon, value = part.partition(":")
        if not (key and colon and value):
            raise UserError(f"not a signature: {part!r} in {text!r} is no key:value pair")
        items[key] = value
    return items


def common_signature(signatures: Iterable[str]) -> str:
    """One signature for several scores, :data:`VARIOUS` where they differ; '' if there is none."""
    parsed = [parse_signature(signature) for signature in signatures]
    values = {key: {items.get(key) for items in parsed} for key in _all_keys(parsed)}
    return format_signature({key: found.pop() if len(found) == 1 else VARIOUS for key, found in values.items()})


def differing_keys(signatures: Iterable[str]) -> Dict[str, List[str]]:
    """Keys on which signatures disagree -> the values found, sorted; a missing key counts as ''."""
    parsed = [parse_signature(signature) for signature in signatures]
    found = {key: sorted({items.get(key, "") for items in parsed}) for key in _all_keys(parsed)}
    return {key: values for key, values in found.items() if len(values) > 1}


def _all_keys(parsed: Sequence[Dict[str, str]]) -> List[str]:
    return list(dict.fromkeys(key for items in parsed for key in items))


def data_fingerprint(image_names: Sequence[str], captions: Sequence[str], text_to_image: Sequence[int]) -> str:
    """12 hexadecimal digits that change with any image name, caption, pairing or order.

    Args:
        image_names: [n] strings.
        captions: [m] strings.
        text_to_image: [m] the row of each caption's image.
    """
    digest = hashlib.sha256(f"{len(image_names)} {len(captions)}".encode())
    rows = (f"{row} {caption}" for row, caption in zip(text_to_image, captions, strict=True))
    for text in (*image_names, *rows):
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()[:12]
