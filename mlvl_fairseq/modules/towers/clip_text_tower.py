"""CLIP's text tower as one of two towers: the state at the end of a text, without the projection to CLIP's space."""

from dataclasses import dataclass

from torch import Tensor

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.exporting import is_exported
from mlvl_fairseq.modules.padding import Lengths, real_tokens
from mlvl_fairseq.modules.towers.base import TextTower, TowerOutput, register_text_tower
from mlvl_fairseq.modules.towers.clip_text import CLIPTextTower
from mlvl_fairseq.modules.transformer import ACTIVATIONS


@register_text_tower(
    {
        "clip_text_b32": {},
        "clip_text_b16": {},
        "clip_text_l14": {"width": 768, "heads": 12},
    }
)
@dataclass(frozen=True)
class ClipTextTowerConfig:
    """Dimensions of CLIP's text tower.

    Attributes:
        vocab_size: rows of the token embedding; by default CLIP's own. width: of the states. layers: blocks.
        heads: of attention.
        max_positions: longest text in tokens.
        activation: of the feed-forward halves, ``quick_gelu`` (OpenAI's) or ``gelu`` (most models of open_clip).
    """

    vocab_size: int = 49_408
    width: int = 512
    layers: int = 12
    heads: int = 8
    max_positions: int = 77
    activation: str = "quick_gelu"

    def build(self) -> "ClipTextTower":
        if self.activation not in ACTIVATIONS:
            raise UserError(f"there is no activation '{self.activation}': there are {', '.join(ACTIVATIONS)}")
        try:
            return ClipTextTower(self)
        except ValueError as error:  # heads that do not divide the width
            raise UserError(str(error)) from None


class ClipTextTower(CLIPTextTower, TextTower):
    """The tower of `networks/clip.py`; parameters have the same names, but there is no ``text_projection``.

    Layerwise adapters stand on the inputs of the branches, as in image towers, whose blocks these are: LilT says where
    they are in a post-norm BERT only. With `keeps_states` the states are those of all tokens after the last
    normalisation.
    """

    tokenizer = "vocabulary"
    growing_embedding = "token_embedding"

    def __init__(self, config: ClipTextTowerConfig):
        super().__init__(
            config.vocab_size,
            config.width,
            config.layers,
            config.heads,
            embed_dim=None,
            context_length=config.max_positions,
            activation=config.activation,
        )
        self.config, self.vocab_size, self.max_length = config, config.vocab_size, config.max_positions

    def forward(self, tokens: Tensor, last: Tensor, lengths: Lengths = None) -> TowerOutput:
        if not self.keeps_states:
            return TowerOutput(self.pool(tokens, last, lengths=lengths))
        if is_exported():
            states = self.ln_final(self.transformer(self.embed(tokens)))
        else:
            x, packing = self.pack(tokens, last, lengths)
            states = packing.unpack(self.ln_final(self.transformer(x, packing=packing)))
        rows = last[:, None, None].expand(-1, 1, self.width)
        return TowerOutput(states.gather(1, rows).squeeze(1), states, real_tokens(last, tokens.shape[1]))
