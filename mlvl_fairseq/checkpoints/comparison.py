"""What two checkpoints have in common: every number of model, criterion and optimizer, byte for byte."""

from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import torch
from torch import Tensor

from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file

PARTS = ("model", "criterion", "last_optimizer_state")
PROGRESS = ("task_state", "train_iterator", "val_loss", "best", "optimizer_history")


def tensors(path, parts: Sequence[str] = PARTS) -> Dict[str, Tensor]:
    """All numbers of a checkpoint by their place in it, e.g. ``model.text.ln_final.weight``.

    Raises:
        DataError: it cannot be read.
    """
    return {place: torch.as_tensor(value) for place, value in _leaves(load_checkpoint_file(path), parts)}


def _leaves(state: Dict[str, Any], parts: Sequence[str]) -> Iterator[Tuple[str, Any]]:
    return _flatten({part: state[part] for part in parts if part in state})


def _flatten(value: Any, place: str = "") -> Iterator[Tuple[str, Any]]:
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        yield place, value
        return
    for key, inner in items:
        yield from _flatten(inner, f"{place}.{key}" if place else str(key))


def differing(first: Path, second: Path) -> List[str]:
    """Places at which two checkpoints differ: in a tensor's type, shape, or a single bit; in how far training has come;
    or because only one of them has the place. Times, measurements and options may differ."""
    one, other = _content(first), _content(second)
    places = sorted(one.keys() | other.keys())
    return [place for place in places if place not in one or place not in other or not _same(one[place], other[place])]


def _content(path: Path) -> Dict[str, Any]:
    state = load_checkpoint_file(path)
    history = state["optimizer_history"][-1:]  # fairseq adds an entry with every start
    return dict(_leaves({**state["extra_state"], **state, "optimizer_history": history}, (*PARTS, *PROGRESS)))


def _same(one: Any, other: Any) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return type(one) is type(other) and one == other
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return one.numpy().tobytes() == other.numpy().tobytes()


def largest_difference(first: Path, second: Path) -> float:
    """Over all of the model's tensors, which must be the same ones. Raises ValueError: they are not."""
    one, other = tensors(first, ("model",)), tensors(second, ("model",))
    if one.keys() != other.keys():
        raise ValueError(f"{first} and {second} hold other tensors: {sorted(one.keys() ^ other.keys())}")
    places = [place for place in one if one[place].numel()]
    return max(float((one[place].double() - other[place].double()).abs().max()) for place in places)
