"""Swins as Microsoft, timm and torchvision name them, and for windows of another size."""

import logging
import re

import numpy as np
import pytest
import timm
import torch
from golden import FIXTURES

from mlvl_fairseq.checkpoints.towers import load_tower
from mlvl_fairseq.checkpoints.towers.relative_positions import distances, resize_relative
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.modules.towers.swin import SwinConfig

SWIN = SwinConfig(image_size=48, patch_size=4, width=4, layers=(2, 2), heads=(1, 2), window=3)
FIRST = "layers.0.blocks.0.attn.relative_position_bias_table"
TABLE = "features.1.0.attn.relative_position_bias_table"


def golden():
    with np.load(FIXTURES / "golden_cclm_positions.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.mark.parametrize("window", [12, 15])
def test_tables_are_resampled_as_published(window):
    arrays = golden()
    torch.testing.assert_close(resize_relative(arrays["rel7"], window, "file", "table"), arrays[f"rel7_to_{window}"])


def test_a_table_of_the_same_window_stays_and_a_smaller_one_keeps_its_middle():
    table = torch.randn(11**2, 2)
    assert resize_relative(table, 6, "file", "table") is table
    smaller = resize_relative(table, 4, "file", "table")
    assert smaller.shape == (49, 2)
    torch.testing.assert_close(smaller[24], table[60])  # no distance at all


def test_distances_grow_by_one_ratio_up_to_the_wanted_one():
    found = np.diff([0, *distances(13, 23)])
    np.testing.assert_allclose(found[1:] / found[:-1], found[1])
    assert found[0] == 1 and sum(found) == pytest.approx(11, abs=1e-4)


def published(tensors):
    """Names of Microsoft's files, with the buffers that these have."""
    renamed = {}
    for name, tensor in tensors.items():
        if name.endswith("relative_position_index"):
            tensor = tensor.view(9, 9)
        name = re.sub(r"^features\.0\.0\.", "patch_embed.proj.", name)
        name = re.sub(r"^features\.0\.2\.", "patch_embed.norm.", name)
        name = re.sub(r"^features\.2\.", "layers.0.downsample.", name)
        name = re.sub(r"^features\.([13])\.", lambda part: f"layers.{(int(part[1]) - 1) // 2}.blocks.", name)
        renamed[name.replace(".mlp.0.", ".mlp.fc1.").replace(".mlp.3.", ".mlp.fc2.")] = tensor
    renamed["layers.0.blocks.1.attn_mask"] = torch.zeros(16, 9, 9)
    return {**renamed, "head.weight": torch.ones(5, 8), "head.bias": torch.ones(5)}


@pytest.fixture(scope="module")
def tensors():
    torch.manual_seed(0)
    state = SWIN.build().state_dict()
    return {name: torch.randn_like(one) if one.is_floating_point() else one for name, one in state.items()}


def test_microsoft_s_names(tensors, tmp_path, caplog):
    torch.save({"model": published(tensors), "epoch": 3}, tmp_path / "swin.pth")
    tower = SWIN.build()
    with caplog.at_level(logging.INFO):
        load_tower(tower, SWIN, tmp_path / "swin.pth")
    assert all(torch.equal(one, tensors[name]) for name, one in tower.state_dict().items())
    assert "its classifier is left out (head.bias, head.weight)" in caplog.text


def test_timm_s_names_give_timm_s_states(tmp_path):
    torch.manual_seed(0)
    options = {"img_size": 48, "patch_size": 4, "embed_dim": 4, "depths": (2, 2), "num_heads": (1, 2), "window_size": 3}
    other = timm.models.swin_transformer.SwinTransformer(num_classes=3, **options).eval()
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    torch.save(other.state_dict(), tmp_path / "timm.pth")
    tower = SWIN.build().eval()
    load_tower(tower, SWIN, tmp_path / "timm.pth")
    tower.keeps_states, pictures = True, torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        expected = other.forward_features(pictures).flatten(1, 2)
        torch.testing.assert_close(tower(pictures).states, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("names", ["torchvision", "microsoft"])
def test_a_tower_with_another_window_gets_resampled_tables(tensors, tmp_path, caplog, names):
    larger = SwinConfig(**{**vars(SWIN), "window": 5})
    torch.save(tensors if names == "torchvision" else published(tensors), tmp_path / "swin.pth")
    tower = larger.build()
    with caplog.at_level(logging.INFO):
        load_tower(tower, larger, tmp_path / "swin.pth")
    assert "resampled from a window of 3 to one of 5 patches" in caplog.text
    state = tower.state_dict()
    expected = resize_relative(tensors[TABLE], 5, "file", "table")
    assert not torch.equal(expected[:25], tensors[TABLE]) and torch.equal(state[TABLE], expected)
    fresh = larger.build().state_dict()
    index = TABLE.replace("bias_table", "index")
    assert torch.equal(state[index], fresh[index])
    with torch.no_grad():
        assert tower(torch.zeros(1, 3, 48, 48)).vector.isfinite().all()


@pytest.mark.parametrize(
    "name, tensor, window, message",
    [
        (
            "layers.0.blocks.0.attn.relative_position_bias_table",
            torch.ones(24, 1),
            3,
            r"shape \[24, 1\]; a window of N",
        ),
        (
            "layers.0.blocks.0.attn.relative_position_bias_table",
            torch.ones(16, 1),
            3,
            r"shape \[16, 1\]; a window of N",
        ),
        (FIRST, torch.ones(25), 3, r"shape \[25\]; a window of N"),
        (
            "layers.0.blocks.0.attn.relative_position_bias_table",
            torch.ones(9, 1),
            3,
            "a window of 2 patches, too small",
        ),
        ("layers.2.blocks.0.norm1.bias", torch.ones(8), 3, "field 'features.5.0.norm1.bias': unknown tensor"),
        ("layers.0.downsample.norm.bias", torch.ones(3), 3, r"'features.2.norm.bias': tensor has shape \[3\]"),
        ("norm.bias", "text", 3, "field 'norm.bias': is a str, not a tensor"),
    ],
)
def test_what_does_not_fit_is_named(tensors, tmp_path, name, tensor, window, message):
    torch.save({"model": {**published(tensors), name: tensor}}, tmp_path / "swin.pth")
    config = SwinConfig(**{**vars(SWIN), "window": window})
    with pytest.raises(DataError, match=message) as error:
        load_tower(config.build(), config, tmp_path / "swin.pth")
    assert str(error.value).startswith(str(tmp_path / "swin.pth")) and "\n" not in str(error.value)
