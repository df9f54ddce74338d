"""What prompt methods share: the caption's own feature chooses prompts, which become keys and values of some layers."""

from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.adapters.base import Adapted, TextAdapter
from mlvl_fairseq.modules.block_adapter import BlockAdapter, Prefix
from mlvl_fairseq.options import choice

PromptMask = choice("PromptMask", "left", "published")


@dataclass
class PromptOptions:
    prompt_mask: PromptMask = field(
        default=PromptMask.left,
        metadata={
            "help": "dual_prompt, coda_prompt: left: prompts are visible to all, a caption's features do not depend on "
            "padding; published: padding is masked as if prompts were on the right, which hides the last tokens of "
            "captions shorter than the batch's longest"
        },
    )


class PromptAdapter(TextAdapter):
    """A kind whose prompts follow from the caption, not from its language.

    The query is the feature of the bare tower, without gradient. Half of a prompt are keys, half are values.
    """

    def prompts(self, query: Tensor) -> Tuple[Dict[int, Tensor], Optional[Tensor]]:
        """Prompts for captions.

        Args:
            query: [B, embed_dim].

        Returns:
            layer -> [B or 1, length, width], and the auxiliary loss, if any.
        """
        raise NotImplementedError

    def forward(self, tower, tokens, eos_positions, lang=None) -> Adapted:
        """See :class:`TextAdapter`; the language does not matter."""
        with torch.no_grad():
            query = tower(tokens, eos_positions)
        prompts, loss = self.prompts(query)
        blocks: List[Optional[BlockAdapter]] = [None] * self.shape.layers
        for layer, prompt in prompts.items():
            key, value = prompt.chunk(2, dim=1)
            visible = None
            if self.options.prompt_mask == PromptMask.published:
                visible = published_visibility(eos_positions, tokens.shape[1], key.shape[1])
            blocks[layer] = BlockAdapter(prefix=Prefix(key, value, visible))
        return Adapted(tower(tokens, eos_positions, blocks), loss)


def published_visibility(eos_positions: Tensor, length: int, prompts: int) -> Tensor:
    """Keys that CLL-CLIP's published code lets positions see: bool [B, prompts + length].

    Prompts stand in front of the tokens, but the padding mask of the tokens is prolonged behind them: the mask's
    column of token j meets key j, be it a prompt or the token ``j - prompts``.
    """
    is_token = torch.arange(length, device=eos_positions.device) <= eos_positions[:, None]
    return torch.cat([is_token, is_token.new_ones(len(is_token), prompts)], dim=1)


def parse_layers(text: Optional[str], default: range, layers: int, option: str) -> List[int]:
    """``"0,1"`` -> [0, 1]; None or empty: `default`.

    Raises:
        UserError: no numbers, or a layer that the tower of `layers` layers does not have.
    """
    if not text:
        return list(default)
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"{option} '{text}' is no list of layers such as 0,1") from None
    if len(set(numbers)) < len(numbers) or not all(0 <= number < layers for number in numbers):
        raise UserError(f"{option} {text}: the text tower has the layers 0 to {layers - 1}, each can be named once")
    return numbers


def require_even(length: int, option: str) -> None:
    """Raises UserError: a prompt cannot be halved into keys and values."""
    if length < 2 or length % 2:
        raise UserError(f"{option} {length} is no even number: half of a prompt are keys, half are values")
