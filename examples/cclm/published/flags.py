"""Flags of ``run.py``, and what a script was called with."""

import argparse
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from mlvl_fairseq.data.data_files import refuse_remote
from mlvl_fairseq.errors import UserError

PATHS = ("checkpoint", "output_dir", "load_ckpt_from", "output_hdfs", "config")
HALVES = {"f4": "0,1,2,3", "l4": "4,5,6,7"}
HERE = 8  # processes of --dist 1, as published


@dataclass(frozen=True)
class Call:
    """What a script was called with.

    Attributes:
        arguments: those before the flags. flags: of run.py. overrides: words behind ``--overrides``. options: what
            stands behind two dashes. small: whether the recipe is the small one. reference: whether the quirks of the
            published code are wanted.
    """

    arguments: Tuple[str, ...]
    flags: argparse.Namespace
    overrides: Sequence[str] = ()
    options: Sequence[str] = ()
    small: bool = False
    reference: bool = False


class Devices(NamedTuple):
    """Attributes: environment: of the commands. processes: how many train. words: of fairseq-train."""

    environment: Mapping[str, str]
    processes: int
    words: List[str]


def read_call(task: str, script: str, names: Sequence[str], words: Sequence[str], refused: Mapping[str, str]) -> Call:
    """Words of a script.

    Args:
        task: name of the task. script: of its file. names: of the arguments before the flags. refused: flags that are
            not of the task, with the reason.

    Raises:
        UserError: an argument is missing; there is no such flag; a value is none; another task; a path of another
            machine; a checkpoint that has to be converted first.
    """
    arguments, rest = tuple(words[: len(names)]), list(words[len(names) :])
    if len(arguments) < len(names) or any(word.startswith("-") for word in arguments):
        raise UserError(
            f"usage: {script} {' '.join(names)} [FLAG...] [--overrides KEY=VALUE...] [-- OPTION...] (--help says more)"
        )
    for name, path in zip(names, arguments):
        for part in path.split(","):
            refuse_remote(part, name)
    place = rest.index("--") if "--" in rest else len(rest)
    flags = _read_flags(task, rest[:place], refused)
    return Call(arguments, flags, flags.overrides, rest[place + 1 :])


def _read_flags(task: str, words: List[str], refused: Mapping[str, str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=task, add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--task")
    parser.add_argument("--dist")
    parser.add_argument("--bs", type=int)
    parser.add_argument("--epoch", type=int)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--checkpoint")
    parser.add_argument("--output_dir")
    parser.add_argument("--config")
    parser.add_argument("--model")
    parser.add_argument("--load_ckpt_from")
    parser.add_argument("--output_hdfs")
    parser.add_argument("--fewshot")
    parser.add_argument("--evaluate", action="store_true")
    parser.add_argument("--gmt", action="store_true")
    parser.add_argument("--overrides", nargs="*", default=[])
    try:
        flags, unknown = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise UserError(str(error)) from None
    if unknown:
        raise UserError(f"{unknown[0]} is no flag of the published run.py; options of our commands follow --")
    for name in PATHS:
        refuse_remote(getattr(flags, name) or "", f"--{name}")
    for name, why in refused.items():
        if getattr(flags, name):
            raise UserError(f"--{name}: {why}")
    if flags.task and flags.task != task:
        raise UserError(f"--task {flags.task}: this script is that of {task}")
    for name in ("checkpoint", "load_ckpt_from"):
        refuse_unconverted(getattr(flags, name), f"--{name}")
    return flags


def refuse_unconverted(path: Optional[str], flag: str) -> None:
    """Raises UserError: a checkpoint is one of the published code."""
    if path and path.endswith((".th", ".pth")):
        raise UserError(f"{flag} {path}: convert it first: mlvl-convert cclm {path} OUT --sentencepiece XLMR")


def devices(dist: Optional[str]) -> Devices:
    """What ``--dist`` asks for. Raises UserError: it is none of the published values, or asks for several machines."""
    if dist is None:
        return Devices({}, HERE, [])
    if dist.startswith("gpu") and dist[3:].isdigit():
        return Devices({"CUDA_VISIBLE_DEVICES": dist[3:]}, 1, ["--distributed-world-size", "1"])
    if dist in HALVES:
        return Devices({"CUDA_VISIBLE_DEVICES": HALVES[dist]}, 4, ["--distributed-world-size", "4"])
    if dist == "1":
        return Devices({}, HERE, ["--distributed-world-size", str(HERE)])
    raise UserError(
        f"--dist {dist}: give 1 (8 GPUs of this machine), f4, l4 or gpuN; for several machines start fairseq-train on "
        "each of them (torchrun)"
    )


def batch_of_one(flags: argparse.Namespace, processes: int) -> Optional[int]:
    """Of the batch of all processes, ``--bs``, that of one; None: it is not given. Raises UserError: it is smaller."""
    if not flags.bs or flags.bs < 0:
        return None
    if flags.bs < processes:
        raise UserError(f"--bs {flags.bs} is the batch of all {processes} processes: give each one row at least")
    return flags.bs // processes


def shared_values(flags: argparse.Namespace, given: Mapping[str, Any]) -> Dict[str, Any]:
    """Values of keys with those that ``--lr`` and ``--epoch`` say."""
    found = dict(given)
    if flags.lr:
        found["optimizer.lr"] = flags.lr
    if flags.epoch and flags.epoch > 0:
        found["schedular.epochs"] = flags.epoch
    return found
