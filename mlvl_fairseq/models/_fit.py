"""Tasks that a model can be built for."""

from functools import wraps
from typing import Callable

from fairseq.tasks import TASK_REGISTRY

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.towers.base import TextTower
from mlvl_fairseq.needs import has_none, missing


def for_tasks_that_fit(build_model: Callable) -> Callable:
    """Decorator of a model's ``build_model(cls, cfg, task)``: a task that lacks what the model needs, such as those of
    fairseq itself, is refused. What it finds out of `cfg`, such as dimensions of the data, is its ``built_with``:
    fairseq gives some models a copy of the options that are saved.

    Raises:
        UserError: it does.
    """

    @wraps(build_model)
    def build(cls, cfg, task):
        absent = missing(cls.needs_of_task, task)
        if absent:
            names = {known: name for name, known in TASK_REGISTRY.items()}
            fitting = [name for name, known in TASK_REGISTRY.items() if not missing(cls.needs_of_task, known)]
            raise UserError(
                f"this --arch does not fit --task {names.get(type(task), type(task).__name__)}: {has_none(absent)}; "
                f"give --task {' or '.join(sorted(fitting))}"
            )
        model = build_model(cls, cfg, task)
        model.built_with = cfg
        return model

    return build


def check_text(tower: TextTower, name: str, task) -> None:
    """Raises UserError: the text tower was made for other tokens than the task's, or for shorter texts."""
    if task.tokenizer.option != tower.tokenizer and getattr(task, "default_freeze", ""):
        raise UserError(
            f"--text-tower {name} does not fit this --task: languages are learned by growing the vocabulary "
            f"of CLIP, and it takes the tokens of a {tower.tokenizer} tokenizer: continue a model whose text tower is "
            "CLIP's"
        )
    if task.tokenizer.option != tower.tokenizer:
        raise UserError(
            f"--text-tower {name} does not fit: it takes ids of a {tower.tokenizer} tokenizer, not "
            f"{task.tokenizer.option}'s: "
            "give --tokenizer-folder FOLDER"
        )
    if task.max_positions() > tower.max_length:
        option = getattr(task, "length_option", "--max-length")
        raise UserError(f"{option} {task.max_positions()} is more than the text tower's {tower.max_length} tokens")
