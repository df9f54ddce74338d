"""What our criterions share: the way from a batch to a logged loss, and what each needs of task, batch and model.

A contrastive loss of one's own goes through `mlvl_fairseq.losses.contrastive_loss`, or computes its similarities in
blocks of rows with `mlvl_fairseq.modules.chunking.in_chunks` as that does: the whole matrix of a large batch is a
square of its rows.
"""

from abc import abstractmethod
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

import torch
from fairseq.criterions import CRITERION_REGISTRY, FairseqCriterion
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from fairseq.tasks import TASK_REGISTRY
from torch import Tensor

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.needs import has_none, missing

COUNTS = ("sample_size", "nsentences", "ntokens")


class Needs(NamedTuple):
    """What a criterion finds elsewhere.

    Attributes:
        task: attributes of the task, and what they are in words ("the task has no ..."); one that is False is as good
            as none.
        batch: keys of a batch.
        model: attributes of the model. outputs: what it returns, by name.
    """

    task: Mapping[str, str] = {}
    batch: Tuple[str, ...] = ()
    model: Tuple[str, ...] = ()
    outputs: Tuple[str, ...] = ()


class Term(NamedTuple):
    """A part of a loss: ``weight * value``; the value is summed over the rows of a batch."""

    weight: float
    value: Tensor


class Criterion(FairseqCriterion):
    """Base of our criterions: a subclass gives the :meth:`terms` of its loss, and says in `needs` what they take.

    Attributes:
        logs: names of the values that validation logs beside the loss, for ``--best-checkpoint-metric``; None: unknown.

    Raises:
        UserError: the task lacks something (when it is built), or a batch or the model does (before the first update).
    """

    needs = Needs()
    logs: Optional[Tuple[str, ...]] = None

    def __init__(self, cfg: FairseqDataclass, task):
        absent = missing_of_task(type(self), task)
        if absent:
            raise self._misfit(task, has_none(absent))
        super().__init__(task)
        self.cfg = cfg
        self._fits = False

    def forward(self, model, sample: Dict, reduce: bool = True) -> Tuple[Tensor, int, Dict]:
        """As :meth:`losses`, from the batch alone."""
        if not self._fits:
            self._require("batches have", [key for key in self.needs.batch if key not in sample])
            self._require("the model has", [name for name in self.needs.model if not hasattr(model, name)])
        features = self.features(model, sample)
        if not self._fits:
            self._require("the model gives", [name for name in self.needs.outputs if name not in features])
            self._fits = True
        return self.losses(model, features, sample)

    def _require(self, what: str, missing: List[str]) -> None:
        if missing:
            raise self._misfit(self.task, f"{what} no {' and no '.join(missing)}")

    def _misfit(self, task, reason: str) -> UserError:
        own = _registered(CRITERION_REGISTRY, type(self))
        return UserError(
            f"--criterion {own} does not fit --task {task_name(task)}: {reason}{criterions_hint(task, own)}"
        )

    def features(self, model, sample: Dict) -> Dict[str, Tensor]:
        """What the model makes of a batch: ``text`` and ``image`` features [B, D] of captions and pictures."""
        return model(**sample["net_input"], images=sample["image_features"])

    @abstractmethod
    def terms(self, model, features: Dict[str, Tensor], sample: Dict) -> Dict[str, Term]:
        """The parts of the loss by name, in nats; one that is off is left out."""

    def losses(self, model, features: Dict[str, Tensor], sample: Dict) -> Tuple[Tensor, int, Dict]:
        """Loss summed over the batch's rows, what fairseq divides it by, values to log."""
        terms, size = self.terms(model, features, sample), self.sample_size(sample)
        zero = next(iter(features.values())).new_zeros((), dtype=torch.float32)
        loss = sum((weight * value for weight, value in terms.values()), zero)
        log = {"sample_size": size, "nsentences": sample["nsentences"], "ntokens": sample["ntokens"]}
        return loss, size, {**log, **self.logged(features, terms), "loss": loss.detach()}

    def sample_size(self, sample: Dict) -> int:
        """What fairseq divides the losses of all ranks by: the number of rows."""
        return sample["nsentences"]

    def logged(self, features: Dict[str, Tensor], terms: Dict[str, Term]) -> Dict[str, Tensor]:
        """Values to log beside the loss, summed over rows: the terms without their weights."""
        return {name: value.detach() for name, (_, value) in terms.items()}

    @classmethod
    def reduce_metrics(cls, logging_outputs: List[Dict]) -> None:
        """Log each value as its sum over all rows of all ranks divided by their number."""
        for name in sorted({name for log in logging_outputs for name in log if name not in COUNTS}):
            log_mean(logging_outputs, name, "sample_size")

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True


def log_mean(
    logging_outputs: List[Dict], key: str, per: str, name: Optional[str] = None, unit: float = 1.0, digits: int = 4
) -> None:
    """Log the sum of a value over that of another one, under a name (the value's own), in units of `unit`.

    In float64, and where values are tensors as a tensor, which is read when it is shown: nothing waits for it here.
    """
    total, count = (sum(_exact(log.get(one, 0)) for log in logging_outputs) for one in (key, per))
    if torch.is_tensor(count):
        mean = total / count.where(count != 0, torch.inf)
    else:
        mean = total / count if count else 0.0
    metrics.log_scalar(name or key, mean / unit, count, round=digits)


def _exact(value):
    return value.detach().double() if torch.is_tensor(value) else value


def missing_of_task(criterion: type, task) -> List[str]:
    """What a criterion needs that a task does not have, in words."""
    return missing(criterion.needs.task, task, but_false=True)


def criterions_hint(task, but: Optional[str] = None) -> str:
    """``; give --criterion NAME``: our criterions that find in `task` what they need, other than `but`."""
    fitting = [
        name
        for name, criterion in CRITERION_REGISTRY.items()
        if name != but and issubclass(criterion, Criterion) and criterion.needs.task
        if not missing_of_task(criterion, task)
    ]
    return f"; give --criterion {' or '.join(fitting)}" if fitting else ""


def task_name(task) -> str:
    """The name that a task is registered by."""
    return _registered(TASK_REGISTRY, type(task))


def _registered(registry: Dict[str, type], cls: type) -> str:
    names = {known: name for name, known in registry.items()}
    return next((names[base] for base in cls.__mro__ if base in names), cls.__name__)
