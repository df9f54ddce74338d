"""A SentencePiece model with fewer pieces, which cuts those texts as before whose pieces it keeps.

A unigram model cuts a text into the pieces whose scores add up to most. Without pieces that the best cut does not use
it stays the best one; what stands for unknown characters scores 10 below the worst piece, so that the worst one is
kept, too. A text that loses pieces is cut into smaller ones, and only what none of them covers becomes ``<unk>``.

The file is one message of Protocol Buffers: ``pieces`` (field 1) with ``piece`` (1), ``score`` (2, float) and ``type``
(3); ``trainer_spec`` (2) with ``model_type`` (3); ``self_test_data`` (4).
"""

import struct
from collections import Counter
from typing import Dict, Iterable, Iterator, List, NamedTuple, Sequence, Set, Tuple, Union

from mlvl_fairseq.errors import DataError, UserError

PIECES, TRAINER, SELF_TEST = 1, 2, 4
MODEL_TYPE, UNIGRAM = 3, 1
SCORE, TYPE, NORMAL = 2, 3, 1
VARINT, BITS64, BYTES, BITS32 = 0, 1, 2, 5
Value = Union[int, bytes]


class Field(NamedTuple):
    """A field of a message: its number, its value, and its bytes as they stand in the message."""

    number: int
    value: Value
    raw: bytes


def fields(message: bytes) -> Iterator[Field]:
    """Raises ValueError, IndexError: it is no message."""
    place = 0
    while place < len(message):
        start = place
        key, place = _varint(message, place)
        kind = key & 7
        value: Value
        if kind == VARINT:
            value, place = _varint(message, place)
        elif kind in (BITS64, BITS32, BYTES):
            size = {BITS64: 8, BITS32: 4}.get(kind)
            if size is None:
                size, place = _varint(message, place)
            if place + size > len(message):
                raise ValueError("is cut off")
            value, place = message[place : place + size], place + size
        else:
            raise ValueError(f"has a field of type {kind}")
        yield Field(key >> 3, value, message[start:place])


def _varint(message: bytes, place: int) -> Tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
        if shift > 63:
            raise ValueError("has a number of more than 64 bits")


def needed_pieces(model: bytes, used: Iterable[int], path) -> List[int]:
    """Ids of the pieces that have to stay, in order: those that are used, all that are no plain ones, and the worst and
    the best of the plain ones, from which scores of others follow.

    Args:
        model: content of the file. used: ids that texts are cut into. path: of the file, for messages.

    Raises:
        DataError: it is no SentencePiece model. UserError: it is none whose cuts stay when pieces go.
    """
    kept, plain = set(used), {}
    try:
        for number, piece in enumerate(field for field in fields(model) if field.number == PIECES):
            inner: Dict[int, Value] = {one.number: one.value for one in fields(bytes(piece.value))}
            if inner.get(TYPE, NORMAL) == NORMAL:
                plain[number] = struct.unpack("<f", inner.get(SCORE, bytes(4)))[0]
            else:
                kept.add(number)
        spec = b"".join(bytes(field.value) for field in fields(model) if field.number == TRAINER)
        kind = {field.number: field.value for field in fields(spec)}.get(MODEL_TYPE, UNIGRAM)
    except (IndexError, TypeError, ValueError, struct.error) as error:
        raise DataError(f"is damaged, or no SentencePiece model ({error})", path) from None
    if kind != UNIGRAM:
        raise UserError(f"{path} is no unigram model: without some of its pieces it would cut all texts otherwise")
    if plain:
        kept |= {min(plain, key=plain.__getitem__), max(plain, key=plain.__getitem__)}
    return sorted(kept)


def trimmed(model: bytes, kept: Sequence[int]) -> bytes:
    """A model with some of its pieces, in the same order, see :func:`needed_pieces`."""
    wanted: Set[int] = set(kept)
    parts, number = [], -1
    for field in fields(model):
        if field.number == PIECES:
            number += 1
            if number not in wanted:
                continue
        if field.number != SELF_TEST:  # texts and their cuts, which the library compares
            parts.append(field.raw)
    return b"".join(parts)


def count_pieces(processor, texts: Iterable[str], batch: int = 1000) -> "Counter[int]":
    """How often texts are cut into each piece, by SentencePiece's id."""
    counts: "Counter[int]" = Counter()
    pending: List[str] = []
    for text in texts:
        pending.append(text)
        if len(pending) == batch:
            _count(processor, pending, counts)
            pending = []
    _count(processor, pending, counts)
    return counts


def _count(processor, texts: List[str], counts: "Counter[int]") -> None:
    for ids in processor.encode(texts, out_type=int) if texts else ():
        counts.update(ids)
