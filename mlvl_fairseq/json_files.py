"""JSON files against a schema. What is not as the schema says is one line that names file and field.

A schema is any annotation that msgspec knows: a dataclass, whose fields with a default may be absent and whose unknown
fields are ignored, a `Dict`, a `List`. Ranges are `Annotated[int, Meta(ge=0)]`; :data:`Count` and its neighbours are
the usual ones. The same layer checks values that other files hold as plain containers (:func:`checked`).
"""

import json
import math
import re
import reprlib
from collections.abc import Mapping as AnyMapping
from typing import Annotated, Any, Dict, List, Tuple, Type, TypeVar, Union

import msgspec
from msgspec import Meta

from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import open_file

Schema = TypeVar("Schema")
Count = Annotated[int, Meta(ge=0, le=2**53)]
Size = Annotated[int, Meta(ge=1, le=2**31 - 1)]  # of a dimension
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]

MAX_BYTES = 64 << 20
MAX_DEPTH = 64
_AGAIN = "delete it and run the same command again"
_STEP = re.compile(r"\.(\w+)|\[(\d+|\.\.\.)\]")  # of msgspec's paths: a field, an element, some value of a dictionary


def read_json(
    path,
    schema: Type[Schema],
    advice: str = _AGAIN,
    missing: str = "",
    limit: int = MAX_BYTES,
    of_others: bool = False,
) -> Schema:
    """Read a JSON file.

    Args:
        schema: what it holds.
        advice: what to do about a damaged file. missing: what to do where there is none; default: `advice`.
        limit: of its size in bytes.
        of_others: another program's files may hold whole numbers beyond 64 bits, where none is wanted (transformers
            writes 10**30 for "no limit"); they are read as floats.

    Raises:
        DataError: it is absent, no regular file, larger than `limit`, no UTF-8, no JSON, nested too deeply, holds a key
            twice, a number that is not finite or beyond 64 bits, or something else than `schema` says.
    """
    return parse_json(json_content(path, advice, missing, limit), schema, path, advice, of_others)


def json_content(path, advice: str = _AGAIN, missing: str = "", limit: int = MAX_BYTES) -> bytes:
    """What a JSON file holds, not yet parsed; see :func:`read_json`."""
    with open_file(path, missing or advice) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise DataError(f"has more than {limit:,} bytes, which no such file needs; {advice}", path)
    return content


def parse_json(content: bytes, schema: Type[Schema], path, advice: str = _AGAIN, of_others: bool = False) -> Schema:
    """The value in JSON text; see :func:`read_json`. `path` is the file to name."""
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_no_constant,
            parse_int=_bounded if of_others else int,
        )
        _require_plain(value)
    except RecursionError:
        raise DataError(f"not JSON (nested too deeply); {advice}", path) from None
    except ValueError as error:  # JSON or UTF-8
        raise DataError(f"not JSON ({error}); {advice}", path) from None
    return checked(value, schema, path, advice=advice)


def read_object(path) -> Dict[str, Any]:
    """A JSON object of any content that one of our commands wrote; see :func:`read_json`."""
    return read_json(path, Dict[str, Any])


def checked(value: Any, schema: Type[Schema], path, field: str = "", advice: str = "") -> Schema:
    """A value of plain containers (and of what else `schema` names, such as tensors) as the schema's type.

    Args:
        path: the file it comes from. field: where in it. advice: what to do about it.

    Raises:
        DataError: it does not fit.
    """
    try:
        return _convert(value, schema)
    except (RecursionError, UnicodeEncodeError) as error:
        what = "is nested too deeply" if isinstance(error, RecursionError) else "holds text that is no Unicode"
        raise DataError(what + (f"; {advice}" if advice else ""), path, field=field or None) from None
    except msgspec.ValidationError as error:
        message, where, found = _explain(value, schema, error)
        message += f", found {_shown(found)}" if message.startswith("expected") else ""
        message += f"; {advice}" if advice else ""
        dot = "." if field and where and not where.startswith("[") else ""
        raise DataError(message, path, field=f"{field}{dot}{where}" or None) from None


class _Object:
    """Stands for what is neither a container nor a plain value."""


def _convert(value: Any, schema):
    try:
        return msgspec.convert(value, schema)
    except AttributeError:  # msgspec asks whatever can be indexed for its keys; a tensor has none
        return msgspec.convert(_plain(value), schema)


def _plain(value: Any) -> Any:
    if isinstance(value, AnyMapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, (str, bytes, int, float)) else _Object()


def _without_duplicates(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {_shown(next(key for key in content if keys.count(key) > 1))} occurs twice")
    return content


def _no_constant(name: str) -> None:
    raise ValueError(f"it holds {name}, which JSON has not")


def _has_64_bits(number: int) -> bool:
    return -(2**63) <= number < 2**64


def _bounded(digits: str) -> Union[int, float]:
    number = int(digits)
    return number if _has_64_bits(number) else float(digits)


def _require_plain(value: Any) -> None:
    """Raises ValueError: something is nested too deeply, not finite, beyond 64 bits, or no Unicode."""
    level = [value]
    for _ in range(MAX_DEPTH):
        for one in level:
            infinite = isinstance(one, float) and not math.isfinite(one)
            if infinite or isinstance(one, int) and not _has_64_bits(one):
                raise ValueError(f"it holds a number out of range ({_shown(one)})")
            if isinstance(one, str) and not one.isascii():
                one.encode()  # half a surrogate pair is a UnicodeEncodeError
        inner = [one for one in level if isinstance(one, (dict, list))]
        level = [child for one in inner for child in (one if isinstance(one, list) else [*one, *one.values()])]
        if not level:
            return
    raise ValueError("nested too deeply")


def _explain(value: Any, schema, error: msgspec.ValidationError) -> Tuple[str, str, Any]:
    """What is wrong, where, and the value that is there."""
    text, _, path = str(error).partition(" - at ")
    steps: List[Union[str, int]] = []
    for name, index in _STEP.findall(path):
        key = name or (index if index == "..." else int(index))
        steps.append(_culprit(value, steps, schema, error) if key == "..." else key)
    found, where = _at(value, steps), _joined(*steps)
    if text.startswith("Object missing required field"):
        return "is missing", _joined(*steps, text.split("`")[1]), None
    if path.startswith("`key`"):
        return "has a key that is no text", where, found
    return text.partition(", got ")[0].replace("`", "").replace("Expected", "expected"), where, found


def _culprit(value: Any, steps: List[Union[str, int]], schema, error: msgspec.ValidationError) -> str:
    """The key of a dictionary's value that provokes the error: msgspec does not say."""
    for key, child in _at(value, steps).items():
        try:
            _convert(_replaced(value, steps, {key: child}), schema)
        except msgspec.ValidationError as other:
            if str(other) == str(error):
                return key
    return "..."


def _replaced(value: Any, steps: List[Union[str, int]], new: Any) -> Any:
    if not steps:
        return new
    copy = list(value) if isinstance(value, (list, tuple)) else dict(value)
    copy[steps[0]] = _replaced(copy[steps[0]], steps[1:], new)
    return copy


def _at(value: Any, steps: List[Union[str, int]]) -> Any:
    for step in steps:
        value = value[step] if isinstance(value, (AnyMapping, list, tuple)) else getattr(value, str(step))
    return value


def _joined(*steps: Union[str, int]) -> str:
    """``a.b[0]``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{_key(step)}" for step in steps).removeprefix(".")


def _key(name: str) -> str:
    printable = name if name.isprintable() else repr(name)[1:-1]
    return printable if len(printable) <= 100 else f"{printable[:60]}...{printable[-30:]}"


def _shown(value: Any) -> str:
    if isinstance(value, (AnyMapping, list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    if value is None or isinstance(value, (str, int, float)):
        return "null" if value is None else reprlib.repr(value)
    return f"a {type(value).__name__}"
