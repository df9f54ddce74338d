"""What the objectives of CCLM share (Zeng et al. 2023): contrast and matching of pairs, in one process or on several
ranks, as published or as in one process with the rows of all."""

from dataclasses import dataclass, field, fields
from typing import ClassVar, Dict, Tuple, Type

import torch
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from omegaconf import II
from torch import Tensor

from mlvl_fairseq.criterions.base import Criterion
from mlvl_fairseq.distributed import scale_gradient, sum_over_ranks, world_size
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.losses import POSITIVES, contrastive_loss
from mlvl_fairseq.losses.sums import Summed
from mlvl_fairseq.options import check_number

DDP_BACKEND = "legacy_ddp"  # the one that lets an update leave parameters out, and losses use them beside `forward`


def weight_of(loss: str):
    """The weight of a loss: an option."""
    return field(default=1.0, metadata={"help": f"weight of {loss}; 0: off"})


def positives_of(default: str):
    """What rows of one thing are to each other: an option."""
    return field(
        default=default,
        metadata={
            "help": "rows of one thing in a batch: masked, neither positives nor negatives of each other in the "
            "contrastive losses; mean, positives with weights that add up to 1 (as published for retrieval); sum, "
            "positives with weight 1 each; diagonal, negatives (as published for pre-training)"
        },
    )


@dataclass
class PairLossOptions(FairseqDataclass):
    positives: ChoiceEnum(sorted(POSITIVES)) = positives_of("masked")
    contrast_with: ChoiceEnum(["all", "rank"]) = field(
        default="all", metadata={"help": "negatives of the contrastive losses: the rows of all ranks, or of the own"}
    )
    itc_grad: ChoiceEnum(["full", "local"]) = field(
        default="full",
        metadata={
            "help": "the gradient that the contrastive losses send to the encoders: full, of the loss over the rows of "
            "all ranks; local, divided by the number of ranks, while the temperature's is whole (as published)"
        },
    )
    mean_over: ChoiceEnum(["all", "rank"]) = field(
        default="all",
        metadata={
            "help": "masked tokens, pairs and boxes count alike in the mean over: all, those of all ranks, as in one "
            "process with the whole batch; rank, those of the own rank, whose means are averaged (as published)"
        },
    )
    ddp_backend: str = II("distributed_training.ddp_backend")


class PairCriterion(Criterion):
    """Base of them. Options whose names end with ``_weight`` are weights.

    Attributes:
        Options: dataclass of its options.
        means: names of the losses that are means over what a batch holds differently many of than rows.
        leaves_out: why an update may leave parameters without gradients.
    """

    Options: ClassVar[Type[PairLossOptions]]
    means: ClassVar[Tuple[str, ...]]
    leaves_out: ClassVar[str]

    def __init__(self, cfg: PairLossOptions, task):
        """Raises UserError: a weight is no number from 0 on, or ranks exchange gradients in a way that fails."""
        for option in fields(self.Options):
            if option.name.endswith("_weight"):
                check_number(cfg, option.name)
        if world_size() > 1 and cfg.ddp_backend != DDP_BACKEND:
            raise UserError(
                f"--ddp-backend {cfg.ddp_backend}: {self.leaves_out}, which it does not allow on several ranks: give "
                f"--ddp-backend {DDP_BACKEND}"
            )
        super().__init__(cfg, task)

    @staticmethod
    def counts(sample: Dict, ids: Tensor) -> Tensor:
        """bool [B]: rows that count, see :func:`mlvl_fairseq.tasks._base.without_rows`. `ids`: [B]."""
        counts = sample.get("counts")
        return torch.ones_like(ids, dtype=torch.bool) if counts is None else counts

    def contrast(self, text: Tensor, image: Tensor, temperature: Tensor, ids: Tensor, counts: Tensor) -> Tensor:
        """Contrastive loss of pairs of vectors [B, embed_dim], summed over rows; arguments as in
        :func:`~mlvl_fairseq.losses.contrastive_loss`."""
        gather = self.training and str(self.cfg.contrast_with) == "all"
        share = 1 / world_size() if gather and str(self.cfg.itc_grad) == "local" else 1.0
        vectors = scale_gradient(text, share), scale_gradient(image, share)
        return contrastive_loss(*vectors, temperature, ids, gather, str(self.cfg.positives), valid=counts)

    def means_of(self, sums: Dict[str, Summed], counts: Tensor) -> Dict[str, Tensor]:
        """Means times the rows of this rank, such that the sum over ranks, divided by all rows, is the mean over all
        ranks, or the mean of their means. Every rank has to call it."""
        rows = counts.sum()
        if not (self.training and str(self.cfg.mean_over) == "all"):
            return {name: rows * summed.mean for name, summed in sums.items()}
        numbers = {name: sums[name].number if name in sums else torch.zeros_like(rows) for name in self.means}
        every = torch.stack([rows, *numbers.values()])
        sum_over_ranks([every])
        of = dict(zip(self.means, every[1:].unbind(), strict=True))
        return {name: every[0] * Summed(summed.total, of[name]).mean for name, summed in sums.items()}
