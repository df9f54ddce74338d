"""What all our tasks share: exact restarts, one dictionary, dummy batches, scores of a whole validation set; and models
and criterions that say what they need, and find it: anything else is told before it trains."""

import inspect
import math
from abc import ABC, abstractmethod
from functools import partial
from typing import Dict, List, Optional

import torch
from fairseq.criterions import CRITERION_REGISTRY
from fairseq.data import Dictionary
from fairseq.logging import metrics
from fairseq.models import ARCH_MODEL_REGISTRY, MODEL_REGISTRY
from fairseq.tasks import FairseqTask
from omegaconf import OmegaConf

from mlvl_fairseq.criterions.base import Criterion, criterions_hint, task_name
from mlvl_fairseq.errors import UserError


class ValidationScores(ABC):
    """Lets fairseq log scores that are computed once all batches of a validation set are through.

    Attributes:
        names: of the scores.
    """

    names: List[str] = []

    def __init__(self):
        self._scores: Dict[str, float] = {}
        self._logged = self._computed = 0.0

    @abstractmethod
    def compute(self) -> Dict[str, float]:
        """Scores of all batches of all ranks by name. Every rank takes part, and gets the same."""

    def log(self, logging_outputs: List[Dict]) -> None:
        """For ``reduce_metrics``, with what all ranks have logged of a batch: `names` are metrics like any other."""
        self._logged += sum(float(log.get("sample_size", 0)) for log in logging_outputs)
        for name in self.names:
            metrics.log_derived(name, partial(self.score, name))

    def score(self, name: str, meters) -> float:
        """One score over all batches; NaN for the meters of a single batch, and where there is none.

        fairseq asks after every batch for that batch's statistics and at the end for those of the whole pass; only
        the latter have seen every row.
        """
        if meters["loss"].count < self._logged:
            return math.nan
        if self._computed != self._logged:
            self._scores, self._computed = self.compute(), self._logged
        return round(self._scores.get(name, math.nan), 3)


class MlvlTask(FairseqTask):
    """Base of our tasks. A model class lists in ``needs_of_task`` the attributes of a task that it is built from, a
    criterion in :attr:`Criterion.needs` what it takes.

    Args:
        cfg: options.
        dictionary: of all text.

    Attributes:
        validation: scores of the validation set that is being gone through; None: losses only.
    """

    def __init__(self, cfg, dictionary: Dictionary):
        super().__init__(cfg)
        self.dictionary = dictionary
        self.validation: Optional[ValidationScores] = None
        # fairseq builds batches once, seeded by the epoch it starts in: a restart would have others.
        if OmegaConf.is_config(cfg):
            OmegaConf.set_struct(cfg, False)
        cfg.rebuild_batches = True

    @property
    def source_dictionary(self) -> Dictionary:
        return self.dictionary

    @property
    def target_dictionary(self) -> Dictionary:
        return self.dictionary

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

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        """fairseq's step. In a batch that stands in for a missing one (its loss is multiplied by 0), ``counts`` bool
        [B] is all False, so that other ranks do not contrast with its rows."""
        if ignore_grad:
            sample = {**sample, "counts": torch.zeros_like(sample["id"], dtype=torch.bool)}
        return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)

    def reduce_metrics(self, logging_outputs, criterion) -> None:
        """Log losses; while validating also scores, computed once the last batch is through."""
        super().reduce_metrics(logging_outputs, criterion)
        if not criterion.training and self.validation is not None:
            self.validation.log(logging_outputs)


def missing_for_model(model: type, task: FairseqTask) -> Optional[List[str]]:
    """Attributes that a model class needs and the task lacks; None: the class does not say what it needs.

    Properties of the task are not computed.
    """
    needs = getattr(model, "needs_of_task", None)
    if needs is None:
        return None
    absent = object()
    return [name for name in needs if inspect.getattr_static(task, name, absent) is absent]
