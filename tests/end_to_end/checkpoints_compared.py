"""What two checkpoints have in common: every tensor of model, criterion and optimizer, byte for byte."""

import torch

from mlvl_fairseq.compat import load_checkpoint_file

TENSORS = ("model", "criterion", "last_optimizer_state")


def tensors(path, parts=TENSORS):
    """All numbers of a checkpoint by their place in it, e.g. ``model.text.ln_final.weight``."""
    state = load_checkpoint_file(path)
    return dict(_flatten({part: state[part] for part in parts if part in state}))


def _flatten(value, place=""):
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        yield place, torch.as_tensor(value)
        return
    for key, inner in items:
        yield from _flatten(inner, f"{place}.{key}" if place else str(key))


def differing(first, second):
    """Places at which two checkpoints differ in a single bit."""
    first, second = tensors(first), tensors(second)
    assert first.keys() == second.keys()
    return [place for place in first if not first[place].equal(second[place])]


def largest_difference(first, second):
    """Over all of the model's tensors."""
    first, second = tensors(first, ("model",)), tensors(second, ("model",))
    assert first.keys() == second.keys()
    return max(float((first[place].double() - second[place].double()).abs().max()) for place in first)
