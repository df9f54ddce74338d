"""What a task of the published program is."""

from abc import ABC, abstractmethod
from typing import Callable, ClassVar, Dict, Mapping, Sequence, Tuple, Type

from mlvl_fairseq.errors import UserError
from published.flags import Call, read_call
from published.shell import Shell


class Task(ABC):
    """Attributes:
    name: of ``--task``; `register_task` sets it.
    arguments: what a script takes before the flags.
    refused: flags that are not of this task, with the reason.
    """

    name: ClassVar[str]
    arguments: ClassVar[Tuple[str, ...]]
    refused: ClassVar[Mapping[str, str]]

    @property
    def script(self) -> str:
        return f"{self.name.replace('_cclm_', '_')}.sh"

    def read(self, words: Sequence[str]) -> Call:
        """Raises UserError: see :func:`read_call`."""
        return read_call(self.name, self.script, self.arguments, words, self.refused)

    @abstractmethod
    def run(self, call: Call, shell: Shell) -> None:
        """Run the commands that do what was asked.

        Raises:
            UserError: it does not fit. SystemExit: a command failed.
        """


TASKS: Dict[str, Task] = {}


def register_task(name: str) -> Callable[[Type[Task]], Type[Task]]:
    """Class decorator: make a task known as ``--task NAME``."""

    def register(task: Type[Task]) -> Type[Task]:
        if name in TASKS:
            raise ValueError(f"task '{name}' is registered twice")
        task.name = name
        TASKS[name] = task()
        return task

    return register


def task_named(name: str) -> Task:
    """Raises UserError: there is none."""
    if name not in TASKS:
        raise UserError(f"--task {name}: there are {', '.join(sorted(TASKS))}")
    return TASKS[name]
