"""CODA-Prompt (Smith et al. 2023): prompts that are weighted sums of components, to which every language adds some."""

import logging
from dataclasses import dataclass, field
from typing import Dict, List, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.adapters.base import register_adapter
from mlvl_fairseq.modules.adapters.prompts import PromptAdapter, PromptOptions, parse_layers, require_even
from mlvl_fairseq.options import choice

logger = logging.getLogger(__name__)

TrainedComponents = choice("TrainedComponents", "own", "none")


@dataclass
class CodaPromptOptions(PromptOptions):
    coda_components: int = field(
        default=5, metadata={"help": "coda_prompt: components of a language (5: 180 for 36 languages)"}
    )
    coda_length: int = field(default=2, metadata={"help": "coda_prompt: length of a prompt"})
    coda_layers: Optional[str] = field(
        default=None, metadata={"help": "coda_prompt: layers with prompts; not given: the first five (0,1,2,3,4)"}
    )
    coda_train: TrainedComponents = field(
        default=TrainedComponents.own,
        metadata={
            "help": "coda_prompt: own: the current language's components train; none: they stay as drawn, as in the "
            "published code, whose optimizer never gets to see them"
        },
    )


class CodaPart(nn.Module):
    """One language's components: prompts [layers, n, length, width], keys and attention [layers, n, embed_dim]."""

    def __init__(self, layers: int, components: int, length: int, width: int, embed_dim: int):
        super().__init__()
        self.prompts = nn.Parameter(torch.empty(layers, components, length, width))
        self.keys = nn.Parameter(torch.empty(layers, components, embed_dim))
        self.attention = nn.Parameter(torch.empty(layers, components, embed_dim))


@register_adapter("coda_prompt", CodaPromptOptions)
class CodaPrompt(PromptAdapter):
    """In each layer: ``prompt = sum over components k of cos(query * A_k, K_k) P_k``.

    New components are drawn orthonormal to each other and orthogonal to all earlier ones; there is no further loss.
    """

    def __init__(self, options: CodaPromptOptions, shape, languages, seed=0):
        require_even(options.coda_length, "--coda-length")
        if options.coda_components < 1:
            raise UserError(f"--coda-components {options.coda_components} is less than 1")
        first = range(min(5, shape.layers))
        self.layers = parse_layers(options.coda_layers, first, shape.layers, "--coda-layers")
        super().__init__(options, shape, languages, seed)

    def trains(self, position):
        return super().trains(position) and self.options.coda_train == TrainedComponents.own

    def new_part(self, is_current):
        options, shape = self.options, self.shape
        return CodaPart(len(self.layers), options.coda_components, options.coda_length, shape.width, shape.embed_dim)

    def draw(self, part, generator, earlier):
        for name, parameter in part.named_parameters():
            for i, rows in enumerate(parameter.detach()):
                known = [tensors[name][i].flatten(1) for tensors in earlier]
                draw_orthonormal(rows.flatten(1), known, generator)

    def prompts(self, query):
        parts = list(self.parts)
        prompts: Dict[int, Tensor] = {}
        for i, layer in enumerate(self.layers):
            attention, keys, components = (
                torch.cat([getattr(part, name)[i] for part in parts]) for name in ("attention", "keys", "prompts")
            )
            prompts[layer] = torch.einsum("bk,klw->blw", attended_cosine(query, attention, keys), components)
        return prompts, None


def attended_cosine(query: Tensor, attention: Tensor, keys: Tensor) -> Tensor:
    """``cos(query_b * attention_k, keys_k)`` for all b and k, without their [B, n, d] products.

    Args:
        query: [B, d]. attention, keys: [n, d].

    Returns:
        [B, n].
    """
    products = query @ (attention * F.normalize(keys, dim=-1)).T
    norms = (query.square() @ attention.square().T).clamp(min=torch.finfo(query.dtype).tiny).sqrt()
    return products / norms


@torch.no_grad()
def draw_orthonormal(rows: Tensor, earlier: List[Tensor], generator: torch.Generator) -> None:
    """Fill `rows` [n, d] with a random orthonormal set that is orthogonal to all rows of `earlier` ([m, d] each).

    Where d dimensions do not suffice, the new rows are orthonormal to each other only.

    Raises:
        UserError: n is larger than d.
    """
    number, dim = rows.shape
    if number > dim:
        raise UserError(f"--coda-components {number} cannot be orthogonal in {dim} dimensions: choose fewer")
    known = torch.cat(earlier).double().cpu() if earlier else torch.empty(0, dim, dtype=torch.float64)
    if len(known) + number > dim:
        logger.warning("%d prompt components are not orthogonal to earlier ones: %d dimensions are few", number, dim)
        known = known[:0]
    fresh = torch.randn(number, dim, generator=generator, dtype=torch.float64)
    basis, triangle = torch.linalg.qr(torch.cat([known, fresh]).T)
    signs = triangle.diagonal().sign()  # of Gram and Schmidt's procedure, whatever the library's
    rows.copy_((basis * signs).T[len(known) :])
