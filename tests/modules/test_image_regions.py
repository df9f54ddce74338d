"""Regions of images, and blocks that training leaves out."""

import numpy as np
import pytest
import torch
from torch import nn

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.towers.clip_vit import ClipViTConfig
from mlvl_fairseq.modules.towers.deit3 import DeiT3Config
from mlvl_fairseq.modules.towers.features import FeatureGridConfig, FeaturesConfig
from mlvl_fairseq.modules.towers.swin import SwinConfig
from mlvl_fairseq.modules.towers.vit import ViTConfig
from mlvl_fairseq.networks.frozen_tower import draws

SIZES = {"image_size": 48, "patch_size": 16, "width": 12, "layers": 3, "heads": 3}
KINDS = {"vit": ViTConfig, "deit3": DeiT3Config, "clip": ClipViTConfig}
IMAGE_OF = torch.tensor([1, 0, 1])
PATCHES = torch.zeros(3, 9, dtype=torch.bool)
for _row, _patches in enumerate([[0, 1, 3, 4], [8], range(9)]):
    PATCHES[_row, list(_patches)] = True


def random_tower(config):
    torch.manual_seed(0)
    tower = config.build().double()
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    tower.keeps_states = True
    return tower


def pictures(size):
    return torch.randn(2, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("local_layers", [1, 2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_a_region_sees_itself_alone_in_the_last_blocks(kind, local_layers):
    """As if from there on its patches and its class token were all there are."""
    tower = random_tower(KINDS[kind](**SIZES, local_layers=local_layers))
    images = pictures(48)
    if kind == "clip":
        x, blocks, norm = tower.embed(images), tower.transformer.resblocks, tower.ln_post
    else:
        x, blocks, norm = tower.embed(tower.patch_embed(images)), tower.blocks, tower.norm
    for block in blocks[: max(0, 3 - local_layers)]:
        x = block(x)
    regions, whole = tower.regions(images, IMAGE_OF, PATCHES)
    expected = tower(images)
    torch.testing.assert_close(whole.states, expected.states)
    torch.testing.assert_close(whole.vector, expected.vector)
    assert tower.has_class_token
    for row, (image, patches) in enumerate(zip(IMAGE_OF, PATCHES)):
        own = torch.cat([torch.tensor([True]), patches])
        alone = x[image : image + 1, own]
        for block in blocks[max(0, 3 - local_layers) :]:
            alone = block(alone)
        torch.testing.assert_close(regions.states[row, own], norm(alone)[0])
        torch.testing.assert_close(regions.vector[row], norm(alone)[0, 0])
    torch.testing.assert_close(regions.vector[2], expected.vector[1])  # all of an image


@pytest.mark.parametrize("kind", ["vit", "clip"])
def test_at_least_one_block_is_local(kind):
    tower = KINDS[kind](**SIZES, local_layers=0).build()
    with pytest.raises(UserError, match="local layers 0: regions of images need one at least"):
        tower.regions(pictures(48).float(), IMAGE_OF, PATCHES)


@pytest.mark.parametrize("kind", ["swin", "grid"])
def test_a_region_without_class_token_is_the_mean_of_its_patches(kind):
    if kind == "swin":
        config = SwinConfig(image_size=48, patch_size=8, width=6, layers=(1, 1), heads=(1, 2), window=3)
        tower, images = random_tower(config), pictures(48)
    else:
        tower, images = FeatureGridConfig(9, 5).build(), torch.randn(2, 9, 5, dtype=torch.float64)
        tower.keeps_states = True
    regions, whole = tower.regions(images, IMAGE_OF, PATCHES)
    expected = tower(images)
    assert torch.equal(whole.states, expected.states) and torch.equal(whole.vector, expected.vector)
    assert not tower.has_class_token
    for row, (image, patches) in enumerate(zip(IMAGE_OF, PATCHES)):
        assert torch.equal(regions.states[row], expected.states[image])
        torch.testing.assert_close(regions.vector[row], expected.states[image, patches].mean(0))


def test_single_vectors_have_no_regions():
    with pytest.raises(UserError, match="a FeaturesTower has no patches, which regions of images are made of"):
        FeaturesConfig(4).build().regions(torch.randn(2, 4), IMAGE_OF, PATCHES)


SWIN = dict(image_size=32, width=8, layers=(2, 2), heads=(2, 4), window=2)


def test_branches_are_dropped_linearly_more_often_with_depth():
    tower = SwinConfig(**SWIN, drop_path=0.3).build()
    found = [block.stochastic_depth.p for stage in tower.features[1::2] for block in stage]
    np.testing.assert_allclose(found, [0, 0.1, 0.2, 0.3])
    tower.append_block()
    assert tower.features[-1][-1].stochastic_depth.p == pytest.approx(0.3)


def test_a_dropped_branch_adds_nothing_and_a_kept_one_more():
    tower = random_tower(SwinConfig(**SWIN, drop_path=0.6)).train()
    block, x = tower.features[-1][-1], torch.randn(500, 4, 4, 16, dtype=torch.float64)
    nn.init.zeros_(block.mlp[3].weight)
    nn.init.zeros_(block.mlp[3].bias)
    added = block(x) - x
    branch = block.attn(block.norm1(x))
    kept = added.abs().amax((1, 2, 3)) > 0
    torch.testing.assert_close(added[kept], branch[kept] / 0.4)
    assert 140 < kept.sum() < 260  # of 500, 200 and 5 spreads
    block.eval()
    torch.testing.assert_close(block(x) - x, branch)
    nn.init.zeros_(block.attn.proj.weight)
    nn.init.zeros_(block.attn.proj.bias)
    nn.init.ones_(block.mlp[3].bias)
    added = block.train()(x) - x  # of the other branch
    kept = added[:, 0, 0, 0] != 0
    assert 140 < kept.sum() < 260 and torch.allclose(added[kept], torch.tensor(2.5).double())


def test_dropped_branches_are_off_in_evaluation_and_by_default():
    images, tower = pictures(32), random_tower(SwinConfig(**SWIN, drop_path=0.9))
    plain = random_tower(SwinConfig(**SWIN))
    assert not torch.allclose(tower.train()(images).vector, plain.train()(images).vector)
    torch.testing.assert_close(tower.eval()(images).vector, plain.eval()(images).vector)
    torch.testing.assert_close(plain.train()(images).vector, plain.eval()(images).vector)
    assert draws(tower) and not draws(plain)


def test_no_branch_is_dropped_always():
    with pytest.raises(UserError, match="drop path 1 is no probability below 1"):
        SwinConfig(**SWIN, drop_path=1.0).build()
