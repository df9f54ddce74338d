"""fairseq's dictionaries with the ids of a model's own vocabulary."""

import copy
import hashlib
import io
from functools import lru_cache
from typing import TYPE_CHECKING, Iterable

from mlvl_fairseq.errors import DataError, one_line

if TYPE_CHECKING:  # fairseq takes seconds to import
    from fairseq.data import Dictionary


def dictionary_text(tokens: Iterable[str]) -> str:
    """Of a ``dict.txt``: one line a token in the order of ids, the token and a count, which is not used."""
    return "".join(f"{token} 1\n" for token in tokens)


def symbols_fingerprint(symbols: Iterable[str]) -> str:
    """SHA-256 (hex) of what ids stand for, in the order of ids."""
    return hashlib.sha256("\n".join(symbols).encode()).hexdigest()


def ordered_dictionary(text: str, source, bos: str, pad: str, eos: str, unk: str) -> "Dictionary":
    """A dictionary whose ids are the lines of a ``dict.txt``: no symbol of fairseq's is put before them.

    Args:
        text: see :func:`dictionary_text`. source: for messages.
        bos, pad, eos, unk: the special tokens, which are among the lines; some may be the same.

    Raises:
        DataError: a line is none of a dictionary, or a special token is missing.
    """
    parsed = _parse_dictionary(text, source, bos, pad, eos, unk)
    dictionary = copy.copy(parsed)  # the caller's own, to add to
    dictionary.symbols, dictionary.count = parsed.symbols.copy(), parsed.count.copy()
    dictionary.indices = parsed.indices.copy()
    return dictionary


@lru_cache(maxsize=4)  # a run needs the same ones again and again, and the processes forked from it inherit them
def _parse_dictionary(text: str, source, bos: str, pad: str, eos: str, unk: str) -> "Dictionary":
    from fairseq.data import Dictionary

    dictionary = Dictionary(bos=bos, pad=pad, eos=eos, unk=unk, add_special_symbols=False)
    dictionary.nspecial = 0
    try:
        dictionary.add_from_file(io.StringIO(text))
    except (ValueError, RuntimeError) as error:
        raise DataError(f"not a fairseq dictionary: {one_line(error)}", source) from None
    missing = [token for token in dict.fromkeys((bos, eos, pad, unk)) if token not in dictionary.indices]
    if missing:
        raise DataError(f"no {' and no '.join(missing)}: not a dictionary that mlvl-prepare wrote", source)
    for name, token in (("bos", bos), ("pad", pad), ("eos", eos), ("unk", unk)):
        setattr(dictionary, f"{name}_index", dictionary.indices[token])
    return dictionary
