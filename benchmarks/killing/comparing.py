"""What two output folders have in common, and what they must."""

import json
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Iterator, List

from mlvl_fairseq.checkpoints.comparison import differing
from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file

LEFT_OUT = ("*.log", "*.lock", "costs.*")
TEMPORARY = ("*.tmp", "*.tmp.*")
COSTS = ("checkpoint_bytes", "costs")
DIGESTS = ("content", "init_from_fingerprint")  # of files with checkpoints, which hold times; these are compared


def differences(run: Path, whole: Path) -> List[str]:
    """Places at which two output folders differ."""
    mine, theirs = (set(compared(folder)) for folder in (run, whole))
    places = [f"{name} is in one of them" for name in sorted(mine ^ theirs)]
    for name in sorted(mine & theirs):
        if name.endswith(".pt"):
            places += [f"{name}: {place}" for place in differing_weights(run / name, whole / name)]
        elif content(run / name) != content(whole / name):
            places.append(name)
    return places


def compared(folder: Path) -> Iterator[str]:
    """Files that must be the same."""
    for path in folder.rglob("*"):
        if path.is_file() and not any(fnmatch(path.name, pattern) for pattern in (*LEFT_OUT, *TEMPORARY)):
            yield str(path.relative_to(folder))


def left_over(folder: Path) -> List[str]:
    """Temporary files that nobody needs any more."""
    return sorted({str(path.relative_to(folder)) for pattern in TEMPORARY for path in folder.rglob(pattern)})


def content(path: Path) -> Any:
    """A file's bytes; of a JSON object what it says, but for costs (JSON holds every digit of a number); of a report
    all but the section on costs."""
    if path.name == "report.md":
        return re.sub(r"^## Costs\n.*?(?=^## |\Z)", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    if path.suffix != ".json":
        return path.read_bytes()
    return without_costs(json.loads(path.read_text(encoding="utf-8")))


def without_costs(value: Any) -> Any:
    """JSON less the fields that say what a run cost, or that stand for times."""
    if isinstance(value, dict):
        return {key: without_costs(inner) for key, inner in value.items() if key not in (*COSTS, *DIGESTS)}
    return [without_costs(inner) for inner in value] if isinstance(value, list) else value


def differing_weights(run: Path, whole: Path) -> List[str]:
    one, other = load_checkpoint_file(run), load_checkpoint_file(whole)
    if "extra_state" in one and one.get("last_optimizer_state", 0) is not None:
        return differing(run, whole)
    return [] if same(one, other) else ["its tensors"]


def same(one: Any, other: Any) -> bool:
    """Do two trees of containers hold the same, tensors bit by bit?"""
    import torch

    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        alike = one.dtype == other.dtype and one.shape == other.shape
        return alike and one.contiguous().numpy().tobytes() == other.contiguous().numpy().tobytes()
    return one == other


def change_weight(path: Path) -> None:
    """The last bit of one number of a checkpoint."""
    import torch

    state = load_checkpoint_file(path)
    tensors = [one for one in state.get("model", state).values() if isinstance(one, torch.Tensor) and one.numel()]
    tensors[0].view(-1).view(torch.uint8)[0] ^= 1
    torch.save(state, path)
