"""What a score was computed on and how, in one line: ``data:1f0c...|split:test|lang:de|...`` (the manner of sacreBLEU).

Two scores may be compared if their signatures are the same.
"""

import hashlib
from dataclasses import dataclass, field, fields
from typing import Dict, Iterable, List, Mapping, Optional, Sequence

from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.version import __version__

SIGNATURE, LEFT_OUT = "signature", "left_out"  # what a file of scores has beside them
VARIOUS = "*"  # stands for more than one value in the signature of several scores


def _key(help: str, **options):
    return field(metadata={"help": help}, **options)


@dataclass(frozen=True)
class Signature:
    """The key:value pairs of a score, in the order in which they are printed; a key without a value (None) is not.

    An evaluator adds keys of its own, behind those that all have and before the version.

    Raises:
        UserError: a value is empty or would break the form, or a key of the evaluator's is one that all have.
    """

    data: str = _key("fingerprint of image names, captions and their order (data_fingerprint)")
    split: str = _key("part of the data set, e.g. test")
    lang: str = _key("language of the captions")
    images: Optional[int] = _key("number of images")
    texts: Optional[int] = _key("number of captions")
    tok: Optional[str] = _key("how captions are cut into tokens, e.g. clip-bpe")
    maxlen: Optional[int] = _key("longest token sequence the text tower sees; longer captions are cut")
    precision: str = _key("floating point format of the towers, e.g. fp32")
    own: Mapping[str, object] = _key("what the evaluator adds, see its `keys`", default_factory=dict)
    version: str = _key("version of mlvl_fairseq", default=__version__)

    def __post_init__(self):
        twice = self.own.keys() & {entry.name for entry in fields(self)}
        if twice:
            raise UserError(f"signature: every score has a key {', '.join(sorted(twice))}; choose another name")
        for key, value in self.items().items():
            if not key or not value or set(key) & set(":|\n") or set(value) & set("|\n"):
                raise UserError(f"signature: {key} may not be {value!r} (empty, or with '|' or a line break)")

    def items(self) -> Dict[str, str]:
        """Key -> value as printed."""
        pairs: Dict[str, object] = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            pairs.update(value if entry.name == "own" else {entry.name: value})
        return {key: str(value) for key, value in pairs.items() if value is not None}

    def __str__(self) -> str:
        return format_signature(self.items())


def format_signature(items: Dict[str, str]) -> str:
    """Key -> value as one line."""
    return "|".join(f"{key}:{value}" for key, value in items.items())


def parse_signature(text: str, path=None) -> Dict[str, str]:
    """The inverse of :func:`format_signature`; keys need not be those of this version.

    Args:
        path: the file that it stands in, for the message.

    Raises:
        DataError: a part is no ``key:value`` pair.
    """
    items = {}
    for part in filter(None, text.split("|")):
        key, colon, value = part.partition(":")
        if not (key and colon and value):
            raise DataError(f"not a signature: {part!r} in {text!r} is no key:value pair; evaluate again", path)
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
