"""LoRA by name: linear layers of every tower and CLIP's fused projections, as added products, merged to the same."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mlvl_fairseq.modules.low_rank import LoraLinear, insert_lora, merge_lora
from mlvl_fairseq.modules.towers.bert import BertConfig, XlmrTowerConfig
from mlvl_fairseq.modules.towers.clip_text import TextConfig
from mlvl_fairseq.modules.towers.clip_vit import ClipViTConfig
from mlvl_fairseq.modules.towers.deit3 import DeiT3Config
from mlvl_fairseq.modules.towers.swin import SwinConfig
from mlvl_fairseq.modules.towers.vit import ViTConfig
from mlvl_fairseq.modules.towers.xlmr import XlmrConfig
from mlvl_fairseq.networks.peft import LORA_TARGETS

PICTURES = (torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32),)
TEXTS = (torch.tensor([[2, 5, 6, 7, 3], [2, 8, 3, 1, 1]]), torch.tensor([4, 2]))
TEXT = {"dropout": 0.0, "attention_dropout": 0.0}
TOWERS = {
    "vit": (ViTConfig(32, 16, 12, 2, 3), PICTURES, 2),
    "deit3": (DeiT3Config(32, 16, 12, 2, 3), PICTURES, 2),
    "clip_vit": (ClipViTConfig(32, 16, 12, 2, 3), PICTURES, 2),
    "swin": (SwinConfig(32, 2, 6, (1, 1), (1, 2), 4), PICTURES, 2),
    "bert": (BertConfig(20, 16, 2, 2, max_positions=9, **TEXT), TEXTS, 4),
    "xlmr tower": (XlmrTowerConfig(20, 16, 2, 2, max_positions=9, **TEXT), TEXTS, 4),
    "clip text": (TextConfig(20, 16, 2, 2, 8, 9), TEXTS, 2),
    "xlmr of fairseq": (XlmrConfig(20, 2, 16, 32, 2, **TEXT), TEXTS[:1], 4),
}


def vector_of(output):
    return output if isinstance(output, torch.Tensor) else output.vector


def copied(tower):
    return {name: tensor.clone() for name, tensor in tower.state_dict().items()}


def randomise_updates(tower):
    torch.manual_seed(1)
    for name, parameter in tower.named_parameters():
        if name.endswith(".lora.up"):
            nn.init.normal_(parameter)


@pytest.mark.parametrize("name", TOWERS)
def test_every_tower_takes_updates_and_merges_them(name):
    config, inputs, layers = TOWERS[name]
    torch.manual_seed(0)
    tower = config.build().eval()
    before, plain = vector_of(tower(*inputs)), copied(tower)
    targets = insert_lora(tower, LORA_TARGETS, rank=3, alpha=6.0)
    assert len(targets) == layers and set(targets) <= plain.keys()
    torch.testing.assert_close(vector_of(tower(*inputs)), before)  # B is 0
    randomise_updates(tower)
    state = copied(tower)
    assert all(torch.equal(state[key], plain[key]) for key in plain)
    for target in targets:
        assert state[target.replace("in_proj_weight", "weight").replace(".weight", ".lora.down")].shape[0] == 3
    changed = vector_of(tower(*inputs))
    assert float((changed - before).detach().abs().max()) > 1e-3
    merge_lora(tower)
    assert tower.state_dict().keys() == plain.keys() and not any(type(m) is LoraLinear for m in tower.modules())
    torch.testing.assert_close(vector_of(tower(*inputs)), changed, rtol=1e-4, atol=1e-5)
    assert [key for key in plain if not torch.equal(tower.state_dict()[key], state[key])] == targets


def test_an_update_is_alpha_over_r_times_b_a():
    """Against float64, gradients too; read as a weight and as a module."""
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(5, 4)).double()
    x = torch.randn(3, 5, dtype=torch.float64)
    weight, bias = layer[0].weight.detach().clone(), layer[0].bias.detach().clone()
    assert insert_lora(layer, "weight", rank=2, alpha=3.0) == ["0.weight"]
    layer.double()
    randomise_updates(layer)
    down, up = layer[0].lora.down, layer[0].lora.up
    expected = weight + 1.5 * up.detach() @ down.detach()
    torch.testing.assert_close(layer[0].weight.detach(), expected)
    torch.testing.assert_close(layer(x), F.linear(x, expected, bias))
    layer[0].requires_grad_(False)
    layer[0].lora.requires_grad_(True)
    layer(x).square().sum().backward()
    output = 2 * F.linear(x, expected, bias)
    torch.testing.assert_close(up.grad, 1.5 * output.T @ x @ down.detach().T)
    torch.testing.assert_close(down.grad, 1.5 * up.detach().T @ output.T @ x)


def test_fresh_updates_are_drawn_as_published():
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(400, 50))
    insert_lora(layer, "weight", rank=8, alpha=8.0)
    down = layer[0].lora.down
    assert float(down.detach().abs().max()) <= 0.05 and float(down.detach().std()) == pytest.approx(
        0.05 / 3**0.5, rel=0.05
    )
    assert not layer[0].lora.up.any()
