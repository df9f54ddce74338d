from types import SimpleNamespace

import pytest
import torch

from mlvl_fairseq.modules.adapters import TowerShape, build_adapter
from mlvl_fairseq.modules.towers.clip_text import CLIPTextTower

WIDTH, LAYERS, EMBED_DIM = 16, 6, 12
VOCABULARY, EOS = 40, 39


@pytest.fixture(scope="session")
def tower():
    """A random text tower of 6 layers whose width is not its features' dimension."""
    torch.manual_seed(0)
    tower = CLIPTextTower(VOCABULARY, WIDTH, LAYERS, heads=2, embed_dim=EMBED_DIM, context_length=20)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return tower.requires_grad_(False)


@pytest.fixture(scope="session")
def new_adapter(tower):
    """``new_adapter(kind, languages, seed, **options)`` for the tower, with numbers in every place."""

    def build(kind, languages=("en",), seed=3, random=True, **options):
        adapter = build_adapter(kind, SimpleNamespace(**options), TowerShape.of(tower), list(languages), seed)
        if random:
            generator = torch.Generator().manual_seed(seed)
            for parameter in adapter.parameters():
                parameter.data.add_(0.5 * torch.randn(parameter.shape, generator=generator))
        return adapter.eval()

    return build


@pytest.fixture(scope="session")
def captions():
    """``captions(count, padding)``: random texts of 3 to 15 tokens -> ids [count, longest + padding], EOS positions."""

    def draw(count=40, padding=0):
        generator = torch.Generator().manual_seed(1)
        ends = torch.randint(2, 15, (count,), generator=generator)
        tokens = torch.randint(0, EOS, (count, 15), generator=generator)
        tokens[torch.arange(15) >= ends[:, None]] = EOS
        padded = torch.nn.functional.pad(tokens[:, : int(ends.max()) + 1], (0, padding), value=EOS)
        return padded, ends

    return draw
