from types import SimpleNamespace

import pytest
import torch

from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.modules.towers.clip_text import CLIPTextTower
from mlvl_fairseq.networks.clip import ClipNetwork

EOS = 39


@pytest.fixture
def new_encoder():
    """``new_encoder(seed)``: a random text tower (2 layers, 2 heads) of 40 tokens, and nothing else."""

    def build(seed=0):
        torch.manual_seed(seed)
        tower = CLIPTextTower(40, width=16, layers=2, heads=2, embed_dim=8, context_length=12)
        with torch.no_grad():
            for parameter in tower.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        tokenizer = SimpleNamespace(bos=38, eos=EOS, pad=EOS)
        return Encoder(ClipNetwork(tower.eval(), None), tokenizer, f"sha of {seed}", [], f"tower {seed}")

    return build


@pytest.fixture
def captions_of_tokens():
    """``captions_of_tokens(count)``: lists of 3 to 9 random ids, BOS and EOS included."""

    def draw(count, seed=0):
        generator = torch.Generator().manual_seed(seed)
        sizes = torch.randint(1, 8, (count,), generator=generator).tolist()
        return [[38, *torch.randint(0, 38, (size,), generator=generator).tolist(), EOS] for size in sizes]

    return draw
