"""Numbers of the published reference code (``fixtures/golden_*.json``) and the inputs they were computed from."""

import json
from pathlib import Path

import torch

from mlvl_fairseq.checkpoints.formats.huggingface_clip import from_huggingface
from mlvl_fairseq.modules.towers.clip_text import CLIPTextTower

FIXTURES = Path(__file__).parent / "fixtures"
END_OF_TEXT = 49407


def load_golden(section):
    return json.loads((FIXTURES / f"golden_{section}.json").read_text(encoding="utf-8"))


def assert_golden(actual, expected, rtol=2e-5, atol=2e-7, msg=""):
    """Equal to a number, or nested lists of them, within float32's tolerance (the numbers have 7 decimals)."""
    actual, expected = torch.as_tensor(actual).detach().double(), torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol, msg=lambda error: f"{msg}: {error}")


def det(shape, scale, phase):
    """The reference's inputs: ``scale * sin(0.7 k + phase)``, computed in float64, float32."""
    steps = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return (scale * torch.sin(0.7 * steps + phase)).float().view(shape)


def golden_text_weights(embedding_scale=0.15):
    """Weights of the reference's tiny text tower (width 32, 6 layers, 4 heads) by their name in `CLIPTextTower`."""
    entries = load_golden("text_tower")["parameters"]
    weights = {name: _parameter(name, *entry, embedding_scale) for name, entry in entries.items()}
    return from_huggingface("text", weights, "golden")


def golden_text_tower(vocab_size=49408):
    """The reference's tiny text tower, not yet filled."""
    return CLIPTextTower(vocab_size, width=32, layers=6, heads=4, embed_dim=32, mlp_width=64)


def _parameter(name, index, shape, embedding_scale):
    if "layer_norm" in name and name.endswith("weight"):
        return 1 + det(shape, 0.1, 0.1 * index)
    return det(shape, embedding_scale if "token_embedding" in name else 0.15, 0.1 * index)
