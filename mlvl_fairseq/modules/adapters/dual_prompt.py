"""DualPrompt (Wang et al. 2022): prompts that all languages share, and one of a pool for each language."""

from dataclasses import dataclass, field
from typing import Dict, List, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.adapters.base import draw_uniform, register_adapter
from mlvl_fairseq.modules.adapters.prompts import PromptAdapter, PromptOptions, parse_layers, require_even
from mlvl_fairseq.options import choice

PastPrompts = choice("PastPrompts", "frozen", "decay")


@dataclass
class DualPromptOptions(PromptOptions):
    dual_g_length: int = field(default=2, metadata={"help": "dual_prompt: length of the shared prompts"})
    dual_e_length: int = field(default=16, metadata={"help": "dual_prompt: length of a language's prompts"})
    dual_g_layers: Optional[str] = field(
        default=None,
        metadata={
            "help": "dual_prompt: layers with shared prompts, e.g. 0,1; not given: the first two, at most half of all"
        },
    )
    dual_e_layers: Optional[str] = field(
        default=None,
        metadata={
            "help": "dual_prompt: layers with languages' prompts; not given: those behind, up to the fifth (2,3,4)"
        },
    )
    dual_depth: int = field(
        default=0,
        metadata={
            "help": "dual_prompt: use prompts in layers below this one only; 0: wherever they are. Published: 4, so "
            "that layer 4's do nothing"
        },
    )
    dual_pull: float = field(
        default=1.0, metadata={"help": "dual_prompt: weight of the loss that pulls a language's key to its captions"}
    )
    dual_pool: int = field(
        default=0,
        metadata={
            "help": "dual_prompt: prompts drawn ahead, all of which can be chosen at test time; 0: the pool grows by "
            "one with every language. Published: 36, so that captions choose prompts that never trained"
        },
    )
    dual_past: PastPrompts = field(
        default=PastPrompts.frozen,
        metadata={
            "help": "dual_prompt: prompts and keys of other languages: frozen, or (decay, as published) shrunk by the "
            "weight decay at every step"
        },
    )


class DualPromptPart(nn.Module):
    """One language's prompts [layers, length, width] and keys [layers, embed_dim]."""

    def __init__(self, layers: int, length: int, width: int, embed_dim: int):
        super().__init__()
        self.prompts = nn.Parameter(torch.empty(layers, length, width))
        self.keys = nn.Parameter(torch.empty(layers, embed_dim))


@register_adapter("dual_prompt", DualPromptOptions)
class DualPrompt(PromptAdapter):
    """Shared G-prompts, and E-prompts that are chosen by a key in each layer.

    While a language trains, its own E-prompt is used and the key is pulled to the query:
    ``sum over layers of mean(1 - cos(query, key)) / number of E-layers``. Else the nearest key by cosine wins.
    """

    def __init__(self, options: DualPromptOptions, shape, languages, seed=0):
        require_even(options.dual_g_length, "--dual-g-length")
        require_even(options.dual_e_length, "--dual-e-length")
        first = min(2, shape.layers // 2)
        next_ones = range(first, min(5, shape.layers))
        self.g_layers = parse_layers(options.dual_g_layers, range(first), shape.layers, "--dual-g-layers")
        self.e_layers = parse_layers(options.dual_e_layers, next_ones, shape.layers, "--dual-e-layers")
        if set(self.g_layers) & set(self.e_layers):
            raise UserError("--dual-g-layers and --dual-e-layers name the same layer; a layer has prompts of one kind")
        super().__init__(options, shape, languages, seed)
        shared = torch.empty(len(self.g_layers), options.dual_g_length, shape.width)
        self.shared = nn.Parameter(shared, requires_grad=len(shared) > 0)
        draw_uniform(self.shared, 1.0, self.generator(stream=1))

    def number_of_parts(self):
        return max(self.options.dual_pool, len(self.languages))

    def trains(self, position):
        return super().trains(position) or self.options.dual_past == PastPrompts.decay

    def new_part(self, is_current):
        options, shape = self.options, self.shape
        return DualPromptPart(len(self.e_layers), options.dual_e_length, shape.width, shape.embed_dim)

    def draw(self, part, generator, earlier):
        draw_uniform(part.prompts, 1.0, generator)
        draw_uniform(part.keys, 1.0, generator)

    def prompts(self, query):
        prompts: Dict[int, Tensor] = {layer: self.shared[i][None] for i, layer in enumerate(self.g_layers)}
        own = torch.stack([part.prompts for part in self.parts], dim=1)  # [E-layers, parts, length, width]
        keys = torch.stack([part.keys for part in self.parts], dim=1)
        depth = self.options.dual_depth or self.shape.layers
        distances: List[Tensor] = []
        for layer, layer_prompts, layer_keys in zip(self.e_layers, own, keys):
            cosine = F.normalize(query, dim=-1) @ F.normalize(layer_keys, dim=-1).T  # [B, parts]
            if not self.training:
                prompts[layer] = layer_prompts[cosine.argmax(dim=1)]
                continue
            prompts[layer] = layer_prompts[self.position][None]
            if layer < depth:
                distances.append((1 - cosine[:, self.position]).mean())
        loss = self.options.dual_pull * sum(distances) / len(self.e_layers) if distances else None
        return {layer: prompt for layer, prompt in prompts.items() if layer < depth}, loss
