"""Our tasks take models and criterions that say what they need, and find it: anything else is told before it trains."""

import inspect
from typing import List, Optional

from fairseq.criterions import CRITERION_REGISTRY
from fairseq.models import ARCH_MODEL_REGISTRY, MODEL_REGISTRY
from fairseq.tasks import FairseqTask

from mlvl_fairseq.criterions.base import Criterion, criterions_hint, task_name
from mlvl_fairseq.errors import UserError


class ContractTask(FairseqTask):
    """Base of our tasks. A model class lists in ``needs_of_task`` the attributes of a task that it is built from, a
    criterion in :attr:`Criterion.needs` what it takes."""

    def build_model(self, cfg, from_checkpoint=False):
        """Raises UserError: the model was not made for this task."""
        own, name = task_name(self), cfg._name
        missing = missing_for_model(MODEL_REGISTRY.get(name) or ARCH_MODEL_REGISTRY[name], self)
        if missing is not None and not missing:
            return super().build_model(cfg, from_checkpoint)
        reason = "it does not say what it needs" if missing is None else f"the task has no {' and no '.join(missing)}"
        fitting = [arch for arch, model in ARCH_MODEL_REGISTRY.items() if missing_for_model(model, self) == []]
        raise UserError(f"--arch {name} does not fit --task {own}: {reason}; these do: {', '.join(fitting)}")

    def build_criterion(self, cfg, from_checkpoint=False):
        """Raises UserError: the criterion does not say what it needs, or it is not there."""
        if not issubclass(CRITERION_REGISTRY[cfg._name], Criterion):
            raise UserError(
                f"--criterion {cfg._name} does not fit --task {task_name(self)}, whose batches it does not know"
                f"{criterions_hint(self)}"
            )
        return super().build_criterion(cfg, from_checkpoint)


def missing_for_model(model: type, task: FairseqTask) -> Optional[List[str]]:
    """Attributes that a model class needs and the task lacks; None: the class does not say what it needs.

    Properties of the task are not computed.
    """
    needs = getattr(model, "needs_of_task", None)
    if needs is None:
        return None
    absent = object()
    return [name for name in needs if inspect.getattr_static(task, name, absent) is absent]
