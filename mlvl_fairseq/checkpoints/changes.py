"""A checkpoint that keeps what has changed since another one: of a language's training, the rows that it moved.

The other file is named by its place beside this one and by its sha256, so that a folder with both can be moved and no
other weights are taken for it. What is put together again is the same bit by bit: rows that a language did not train
are those of the other file, after the decay that handing over carries out (`apply_idle_decay`).
"""

import contextlib
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Container, Dict, Iterator, List, Mapping, NamedTuple, Tuple

import torch
from torch import Tensor

from mlvl_fairseq.digests import file_sha256
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import open_file
from mlvl_fairseq.json_files import checked
from mlvl_fairseq.modules.expandable_embedding import apply_idle_decay

BASE, CHANGES = "changes_since", "changes"
_AGAIN = "restore it from a good copy"
_IDLE = "idle_decay_bits"
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass
class _Base:
    path: str
    sha256: str


def changes_since(base: Mapping[str, Any], base_path, state: Mapping[str, Any], path) -> Dict[str, Any]:
    """What a file at `path` has to hold for :func:`put_together` to give `state`.

    Args:
        base: the content of the file at `base_path`, see :func:`handed_over`. state: for `torch.save`, as in fairseq's
            checkpoints.
    """
    place = Path(os.path.relpath(base_path, Path(path).parent)).as_posix()
    return {BASE: {"path": place, "sha256": file_sha256(base_path)}, CHANGES: _changes(base, state)}


def put_together(content: Any, path, load: Callable[[Any], Any]) -> Any:
    """The whole of a file's content; of a file that keeps no changes, as it is.

    Args:
        content: what `torch.load` gives. path: of the file. load: gives what another, open file holds, as it is.

    Raises:
        DataError: another file is not there, or another one, or the changes do not fit it.
    """
    kept: List[_Kept] = []
    while isinstance(content, dict) and BASE in content:
        place = _base_of(content, path)
        kept.append(_Kept(path, place, content.get(CHANGES)))
        path = place
        with open_file(path) as file:
            content = load(file)
    matrices = _Matrices(kept)
    while kept:  # the last one is the first language's
        file = kept.pop()
        with _must_fit(file):
            content = _apply(matrices.handed_over(content), file.changes, matrices)
    return content


def _base_of(content: Mapping[str, Any], path) -> Path:
    """The file whose changes `content` keeps. Raises DataError."""
    base = checked(content[BASE], _Base, path, BASE, _AGAIN)
    folder = os.path.dirname(path) if isinstance(path, (str, os.PathLike)) else ""
    place = Path(os.path.normpath(os.path.join(folder, base.path)))
    advice = (
        "copy the folder of the whole run, or write a checkpoint that needs no other file where the run is: "
        "mlvl-export checkpoint CHECKPOINT FOLDER"
    )
    if not place.is_file():
        raise DataError(f"keeps what has changed since {place}, which is not there; {advice}", path)
    if file_sha256(place) != base.sha256:
        raise DataError(f"keeps what has changed since {place}, which is another file now; {advice}", path)
    return place


class _Kept(NamedTuple):
    """What one file of a chain keeps: `changes` since the file at `base`."""

    path: Any
    base: Path
    changes: Any


@contextlib.contextmanager
def _must_fit(file: _Kept) -> Iterator[None]:
    try:
        yield
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        message = f"its changes do not fit {file.base} ({type(error).__name__}); {_AGAIN}"
        raise DataError(message, file.path) from None


def handed_over(state: Mapping[str, Any], own: Container[int] = ()) -> Dict[str, Any]:
    """A checkpoint's content as the language after it gets it: the decay is carried out that was put off.

    Args:
        own: `id` of tensors that may be overwritten.
    """
    model = dict(state["model"])
    for prefix in [name.removesuffix(_IDLE) for name in model if name.endswith(_IDLE)]:
        apply_idle_decay(model, prefix, in_place=id(model[prefix + "weight"]) in own)
    return {**state, "model": model}


def _changes(old: Any, new: Any) -> List[Any]:
    """``["same"]``, ``["value", new]`` or, of what has parts, which of them have changed and how."""
    if isinstance(new, dict) and isinstance(old, dict):
        return ["parts", {key: _changes(old.get(key), value) for key, value in new.items()}]
    if isinstance(new, list) and isinstance(old, list) and _goes_on(old, new):
        return ["more", len(old), new[len(old) :]]
    if isinstance(new, Tensor) and isinstance(old, Tensor) and new.dtype == old.dtype:
        return _changed_rows(old, new) if new.dim() else _changed_number(old, new)
    return ["value", new]


def _changed_number(old: Tensor, new: Tensor) -> List[Any]:
    return ["same"] if old.shape == new.shape and _bits(old) == _bits(new) else ["value", new]


def _changed_rows(old: Tensor, new: Tensor) -> List[Any]:
    """Of a matrix or vector that may have more rows than it had."""
    if not old.dim() or old.shape[1:] != new.shape[1:] or len(old) > len(new):
        return ["value", new]
    differ = (_bits(old) != _bits(new[: len(old)])).reshape(len(old), math.prod(old.shape[1:])).any(dim=1)
    rows = torch.cat([differ.nonzero().flatten(), torch.arange(len(old), len(new))]).to(torch.int32)
    if not len(rows):
        return ["same"]
    values = new[rows]
    return ["rows", len(new), rows, values] if rows.nbytes + values.nbytes < new.nbytes else ["value", new]


def _goes_on(old: List[Any], new: List[Any]) -> bool:
    """Whether a list of texts begins with another one; equal numbers may be of different types."""
    return bool(old) and new[: len(old)] == old and all(isinstance(text, str) for text in old)


def _bits(tensor: Tensor) -> Tensor:
    """Numbers as integers: -0 is not 0, and NaN is itself."""
    return tensor.detach().contiguous().view(_BITS[tensor.element_size()])


def _apply(old: Any, change: List[Any], matrices: "_Matrices", place: Tuple = ()) -> Any:
    kind, *what = change
    if kind == "same":
        return old
    if kind == "parts":
        return {key: _apply(old.get(key), part, matrices, (*place, key)) for key, part in what[0].items()}
    if kind == "rows":
        return matrices.with_rows(place, old, *what)
    if kind == "more":
        return _with_more(old, *what)
    if kind != "value":
        raise ValueError("no such change")
    return what[0]


class _Matrices:
    """Tensors whose rows change along a chain: each is made once, as long as it gets, and changed in place.

    Args:
        kept: the files of the chain, the last language's first.

    Raises:
        DataError: the changes of a file are none.
    """

    def __init__(self, kept: List[_Kept]):
        self._length: Dict[Tuple, int] = {}  # place of a tensor in the content -> how long the chain leaves it
        self._given: Dict[Tuple, int] = {}  # rows that the files hold: no more can come
        self._own: Dict[Tuple, Tuple[Tensor, Tensor]] = {}  # the memory, and the part that is in use
        for file in kept:
            with _must_fit(file):
                self._look(file.changes, ())

    def _look(self, change: List[Any], place: Tuple) -> None:
        kind, *what = change
        if kind == "parts":
            for key, part in what[0].items():
                self._look(part, (*place, key))
        if kind == "rows":
            length, _, values = what
            self._length.setdefault(place, length)
            self._given[place] = self._given.get(place, 0) + len(values)

    def handed_over(self, state: Mapping[str, Any]) -> Dict[str, Any]:
        """See :func:`handed_over`."""
        return handed_over(state, {id(used) for _, used in self._own.values()})

    def with_rows(self, place: Tuple, old: Tensor, length: int, rows: Tensor, values: Tensor) -> Tensor:
        """`old` with some rows replaced, and more below. Every new row is given, so nothing can be made large."""
        rows, kept = rows.long(), len(rows) - (length - len(old))
        if not 0 <= kept <= len(rows) or not torch.equal(rows[kept:], torch.arange(len(old), length)):
            raise ValueError("other rows")
        memory, used = self._own.get(place, (None, None))
        if used is not old or length > len(memory):
            whole = max(length, min(self._length[place], len(old) + self._given[place]))
            memory = old.new_empty((whole, *old.shape[1:]))
            memory[: len(old)] = old
        used = memory[:length]
        self._own[place] = memory, used.index_copy_(0, rows, values)
        return used


def _with_more(old: List[Any], number: int, tail: List[Any]) -> List[Any]:
    if len(old) != number:
        raise ValueError("another list")
    return old + tail
