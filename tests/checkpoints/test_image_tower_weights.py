"""Image towers out of public files: layouts, positions for other pictures, and files that do not fit."""

import copy
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mlvl_fairseq.checkpoints.source import WeightSource
from mlvl_fairseq.checkpoints.towers import load_tower
from mlvl_fairseq.checkpoints.towers.positions import resize_positions
from mlvl_fairseq.checkpoints.towers.swin import read_swin
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.modules.towers.clip_vit import ClipViTConfig
from mlvl_fairseq.modules.towers.deit3 import DeiT3Config
from mlvl_fairseq.modules.towers.features import FeaturesConfig
from mlvl_fairseq.modules.towers.swin import SwinConfig
from mlvl_fairseq.modules.towers.vit import ViTConfig

GOLDEN = Path(__file__).parents[1] / "fixtures" / "lilt" / "image_towers.npz"
SIZES = {"image_size": 16, "patch_size": 4, "width": 8, "layers": 2, "heads": 2}
VIT, DEIT3 = ViTConfig(**SIZES), DeiT3Config(**SIZES)
SWIN = SwinConfig(image_size=16, patch_size=4, width=4, layers=(1, 1), heads=(1, 2), window=3)
HEAD = {"head.weight": torch.ones(5, 8), "head.bias": torch.ones(5)}


def drawn(config):
    """A tower's tensors, all of them random."""
    torch.manual_seed(0)
    state = config.build().state_dict()
    return {n: torch.randn_like(tensor) if tensor.is_floating_point() else tensor for n, tensor in state.items()}


def write(path, layout, tensors):
    if layout == "safetensors":
        save_file(tensors, path.with_suffix(".safetensors"))
        return path.with_suffix(".safetensors")
    content = {"model": tensors, "epoch": 3} if layout.startswith("model") else tensors
    torch.save(content, path, _use_new_zipfile_serialization="legacy" not in layout)
    return path


@pytest.mark.parametrize("layout", ["model", "model, legacy", "flat", "safetensors"])
@pytest.mark.parametrize("config", [VIT, DEIT3, SWIN], ids=["vit", "deit3", "swin"])
def test_every_layout_fills_the_tower_and_leaves_the_classifier(tmp_path, caplog, config, layout):
    tensors = drawn(config)
    path = write(tmp_path / "file.pth", layout, {**tensors, **HEAD})
    tower = config.build()
    with caplog.at_level(logging.INFO):
        digest = load_tower(tower, config, path)
    assert all(torch.equal(tower.state_dict()[name], tensor) for name, tensor in tensors.items())
    assert f"{path}: its classifier is left out (head.bias, head.weight)" in caplog.text
    assert digest == load_tower(config.build(), config, write(tmp_path / "again.pth", "flat", tensors))


def test_a_folder_of_hugging_face_and_half_precision(tmp_path):
    tensors = {name: tensor.half() for name, tensor in drawn(VIT).items()}
    save_file(tensors, tmp_path / "model.safetensors")
    tower = VIT.build()
    load_tower(tower, VIT, tmp_path)
    for name, parameter in tower.named_parameters():
        assert parameter.dtype == torch.float32 and torch.equal(parameter, tensors[name].float())


def test_indices_of_swin_stay_whole_numbers(tmp_path):
    tensors = read_swin(WeightSource(write(tmp_path / "swin.pth", "flat", drawn(SWIN))), SWIN)
    assert tensors["features.1.0.attn.relative_position_index"].dtype == torch.int64


def test_timm_s_names_of_scales(tmp_path):
    tensors = drawn(DEIT3)
    renamed = {n.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma"): t for n, t in tensors.items()}
    tower = DEIT3.build()
    load_tower(tower, DEIT3, write(tmp_path / "timm.pth", "flat", renamed))
    assert all(torch.equal(tower.state_dict()[name], tensor) for name, tensor in tensors.items())


def test_adapters_and_appended_blocks_stay_fresh(tmp_path):
    tensors, tower = drawn(VIT), VIT.build()
    tower.append_block()
    tower.insert_adapters(2)
    before = {name: tensor.clone() for name, tensor in tower.state_dict().items()}
    load_tower(tower, VIT, write(tmp_path / "vit.pth", "flat", tensors))
    for name, tensor in tower.state_dict().items():
        assert torch.equal(tensor, tensors.get(name, before[name])), name


@pytest.mark.parametrize("kind, leading", [("vit", 1), ("deit3", 0)])
def test_positions_are_resized_as_published(kind, leading):
    with np.load(GOLDEN) as golden:
        table, expected = (torch.from_numpy(golden[f"positions/{kind}/{size}"]) for size in ("7x7", "8x8"))
    torch.testing.assert_close(resize_positions(table, leading, 8, "file", "table"), expected, rtol=0, atol=1e-6)
    assert resize_positions(table, leading, 7, "file", "table") is table


@pytest.mark.parametrize("config, leading", [(VIT, 1), (DEIT3, 0)], ids=["vit", "deit3"])
def test_a_tower_for_larger_pictures_gets_positions_for_them(tmp_path, config, leading):
    tensors = drawn(config)
    table = torch.ones(1, 16 + leading, 8)
    table[:, :leading] = 5.0
    larger = type(config)(**{**SIZES, "image_size": 24})
    tower = larger.build()
    load_tower(tower, larger, write(tmp_path / "file.pth", "model", {**tensors, "pos_embed": table}))
    assert tower.pos_embed.shape == (1, 36 + leading, 8)
    torch.testing.assert_close(tower.pos_embed[:, leading:], torch.ones(1, 36, 8))  # cubic weights sum to one
    assert (tower.pos_embed[:, :leading] == 5).all()


def without(name):
    return lambda tensors: tensors.pop(name)


@pytest.mark.parametrize(
    "config, edit, message",
    [
        (VIT, without("pos_embed"), "field 'pos_embed': tensor is missing; this is no vision transformer"),
        (VIT, without("norm.bias"), "field 'norm.bias': tensor is missing"),
        (VIT, {"pos_embed": torch.ones(1, 16, 8)}, r"positions are 1 row in front and a square of patches"),
        (DEIT3, {"pos_embed": torch.ones(1, 17, 8)}, r"shape \[17, 8\]; positions are a square of patches"),
        (VIT, {"pos_embed": torch.ones(1, 1, 8)}, "positions are 1 row in front and a square"),
        (VIT, {"pos_embed": torch.ones(17, 8)}, r"shape \[17, 8\], expected \[1, rows, width\]"),
        (VIT, {"pos_embed": torch.ones(1, 17, 0)}, r"shape \[17, 0\]; positions are"),
        (VIT, {"pos_embed": torch.ones(1, 17, 6)}, r"field 'pos_embed': tensor has shape .* expected \[1, 17, 8\]"),
        (VIT, {"dist_token": torch.ones(1, 1, 8)}, "field 'dist_token': belongs to a distilled DeiT"),
        (VIT, {"blocks.2.norm1.bias": torch.ones(8)}, "field 'blocks.2.norm1.bias': unknown tensor; a ViTTower"),
        (VIT, {"norm.bias": "text"}, "field 'norm.bias': is a str, not a tensor"),
        (VIT, {"norm.bias": torch.ones(8, dtype=torch.complex64)}, "field 'norm.bias': is a tensor of complex64"),
        (VIT, {3: torch.ones(8)}, "has a key that is no text"),
        (DEIT3, without("blocks.1.gamma_2"), "field 'blocks.1.gamma_2': tensor is missing"),
        (SWIN, {"features.1.0.attn.relative_position_index": torch.arange(81)}, "is not that of windows of 3 x 3"),
        (SWIN, {"features.1.0.attn.relative_position_index": torch.ones(16)}, "is not that of windows of 3 x 3"),
        (SWIN, {"features.0.0.weight": torch.ones(4, 3, 2, 2)}, r"expected \[4, 3, 4, 4\]"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, config, edit, message):
    tensors = drawn(config)
    edit(tensors) if callable(edit) else tensors.update(edit)
    path = write(tmp_path / "file.pth", "model", tensors)
    with pytest.raises(DataError, match=message) as error:
        load_tower(config.build(), config, path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_a_refused_file_changes_nothing(tmp_path):
    tower = VIT.build()
    before = {name: tensor.clone() for name, tensor in tower.state_dict().items()}
    path = write(tmp_path / "file.pth", "flat", {**drawn(VIT), "norm.bias": torch.ones(9)})
    with pytest.raises(DataError):
        load_tower(tower, VIT, path)
    assert all(torch.equal(tower.state_dict()[name], tensor) for name, tensor in before.items())


def test_files_of_other_kinds(tmp_path):
    (tmp_path / "text.pth").write_text("no weights\n")
    with pytest.raises(DataError, match="is no file of torch.save with weights"):
        load_tower(VIT.build(), VIT, tmp_path / "text.pth")
    with pytest.raises(DataError, match="no such file or folder"):
        load_tower(VIT.build(), VIT, tmp_path / "absent.pth")
    (tmp_path / "cut.pth").write_bytes(write(tmp_path / "whole.pth", "flat", drawn(VIT)).read_bytes()[:-500])
    with pytest.raises(DataError, match="truncated or damaged"):
        load_tower(VIT.build(), VIT, tmp_path / "cut.pth")
    torch.save({"model": {"norm.bias": pickle.Pickler}}, tmp_path / "object.pth")
    with pytest.raises(DataError, match="not on the list of types that are safe to load"):
        load_tower(VIT.build(), VIT, tmp_path / "object.pth")
    with pytest.raises(UserError, match="a FeaturesTower does not start from weights"):
        load_tower(FeaturesConfig(3).build(), FeaturesConfig(3), tmp_path / "text.pth")


@pytest.fixture(scope="module")
def clip_file(official_clip, tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.pt"
    torch.save({**official_clip.state_dict(), "context_length": torch.tensor(10)}, path)
    return path


CLIP = ClipViTConfig(image_size=16, patch_size=8, width=64, layers=2, heads=1)


def test_clip_s_image_tower_out_of_a_whole_clip(clip_file, official_clip):
    tower, larger = CLIP.build(), ClipViTConfig(image_size=24, patch_size=8, width=64, layers=2, heads=1)
    load_tower(tower, CLIP, clip_file)
    images, visual = torch.randn(2, 3, 16, 16), copy.deepcopy(official_clip.visual).float()
    torch.testing.assert_close(tower(images).vector @ visual.proj, visual(images), rtol=1e-5, atol=1e-5)
    tower = larger.build()
    load_tower(tower, larger, clip_file)
    assert torch.equal(tower.positional_embedding[0], visual.positional_embedding[0])
    assert tower(torch.randn(2, 3, 24, 24)).vector.isfinite().all()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"width": 128}, "its image tower has width 64, not 128: choose another tower"),
        ({"layers": 3}, "its image tower has layers 2, not 3"),
        ({"heads": 2}, "its image tower has heads 1, not 2"),
        ({"activation": "gelu"}, "its activation is quick_gelu, not gelu"),
    ],
)
def test_clips_of_other_dimensions_are_refused(clip_file, changes, message):
    config = ClipViTConfig(**{**vars(CLIP), **changes})
    with pytest.raises(UserError, match=message):
        load_tower(config.build(), config, clip_file)


def test_a_clip_without_image_tower_is_refused(official_clip, tmp_path):
    text = {name: tensor for name, tensor in official_clip.state_dict().items() if not name.startswith("visual.")}
    torch.save({**text, "context_length": torch.tensor(10)}, tmp_path / "text.pt")
    with pytest.raises(DataError, match="holds no image tower"):
        load_tower(CLIP.build(), CLIP, tmp_path / "text.pt")
