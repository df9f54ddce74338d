"""Low-rank adaptation of the query and value projections (Hu et al. 2022)."""

from dataclasses import dataclass, field

from torch import nn

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.adapters.base import LanguageAdapter, draw_uniform, register_adapter
from mlvl_fairseq.modules.block_adapter import BlockAdapter
from mlvl_fairseq.modules.low_rank import LowRank


@dataclass
class LoraOptions:
    lora_rank: int = field(default=8, metadata={"help": "lora: rank r of the update of a projection"})
    lora_alpha: float = field(default=8.0, metadata={"help": "lora: alpha; the update is scaled by alpha / r"})


@register_adapter("lora", LoraOptions)
class LoraAdapter(LanguageAdapter):
    """A :class:`LowRank` update of queries and of values for each block and language.

    A is drawn from U(-1/sqrt(width), 1/sqrt(width)), B starts as 0: a new language starts with the bare tower.
    """

    def new_part(self, is_current):
        rank, width = self.options.lora_rank, self.shape.width
        if rank < 1:
            raise UserError(f"--lora-rank {rank} is less than 1")
        return nn.ModuleList(
            nn.ModuleDict({name: LowRank(width, width, rank, self.options.lora_alpha) for name in ("query", "value")})
            for _ in range(self.shape.layers)
        )

    def draw(self, part, generator, earlier):
        for block in part:
            for update in block.values():
                draw_uniform(update.down, self.shape.width**-0.5, generator)

    def blocks(self, part):
        return [BlockAdapter(query=block["query"], value=block["value"]) for block in part]
