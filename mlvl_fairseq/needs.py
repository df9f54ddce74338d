"""What models and criterions need of a task, said in words where it is not there."""

import inspect
from typing import List, Mapping

_ABSENT = object()


def missing(needs: Mapping[str, str], task, but_false: bool = False) -> List[str]:
    """What a task does not have, in words.

    Args:
        needs: name of an attribute -> what it is, to be read after "the task has no". Properties are not computed.
        task: a task, or the class of one.
        but_false: an attribute that is False is as good as none.
    """
    found = {name: inspect.getattr_static(task, name, _ABSENT) for name in needs}
    return [needs[name] for name, value in found.items() if value is _ABSENT or (but_false and value is False)]


def has_none(what: List[str]) -> str:
    """``the task has no order of languages and no methods``."""
    return f"the task has no {' and no '.join(what)}"
