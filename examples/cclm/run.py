#!/usr/bin/env python
"""The published run.py by our commands: python run.py --task TASK ARGUMENT ... FLAG ... [--overrides KEY=VALUE ...]
[-- OPTION ...]

TASK is a file of published/tasks, ARGUMENT what it takes; FLAG is one of run.py's (`--dist 1 --bs 128 --seed 42`),
KEY=VALUE what stands in the published configuration, with dots: `optimizer.lr=1e-5`, OPTION of fairseq-train; with
`--evaluate`, of mlvl-evaluate. What is none of these is refused. The commands are told as they are run. RECIPE=small is
for a CPU, PRESET=reference has the quirks of the published code. `run.py table` prints the tables of README.md.
"""

import os
import sys
from dataclasses import replace
from typing import List, Optional

import published.tasks  # noqa: F401  (registers them)
from published.configs import configurations_table, keys_table
from published.finetuning import FineTuning
from published.pretraining import keys_table as pretraining_table
from published.shell import Shell
from published.task import TASKS, task_named

from mlvl_fairseq.cli.common import run
from mlvl_fairseq.errors import UserError


def tables() -> str:
    """For README.md."""
    tuned = {name: task for name, task in sorted(TASKS.items()) if isinstance(task, FineTuning)}
    configurations = configurations_table({name: task.configs for name, task in tuned.items()})
    keys = keys_table({name: task.keys for name, task in tuned.items()})
    return "\n\n".join([pretraining_table(), configurations, keys])


def main(argv: Optional[List[str]] = None) -> None:
    words = sys.argv[1:] if argv is None else argv
    words = words[1:] if words[:1] == ["--task"] else words
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
    elif words[0] == "table":
        print(tables())
    else:
        task = task_named(words[0])
        small, quirks = (chosen(name, choices) for name, choices in CHOICES.items())
        task.run(replace(task.read(words[1:]), small=small, reference=quirks), Shell())


CHOICES = {"RECIPE": ("published", "small"), "PRESET": ("default", "reference")}


def chosen(name: str, choices) -> bool:
    """Whether the second of the choices is. Raises UserError: it is none of them."""
    value = os.environ.get(name, choices[0])
    if value not in choices:
        raise UserError(f"{name}={value}: choose one of {' '.join(choices)}")
    return value == choices[1]


if __name__ == "__main__":
    run(main)
