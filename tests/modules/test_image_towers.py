"""Image towers against golden numbers of LilT's published code, torchvision, and their own definition."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from mlvl_fairseq.checkpoints.check import without_values
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.towers.base import IMAGE_TOWERS, known, tower_config
from mlvl_fairseq.modules.towers.clip_vit import ClipViTConfig
from mlvl_fairseq.modules.towers.deit3 import DeiT3Config
from mlvl_fairseq.modules.towers.features import FeatureGridConfig, FeaturesConfig
from mlvl_fairseq.modules.towers.swin import SwinConfig
from mlvl_fairseq.modules.towers.vit import ViTConfig

GOLDEN = Path(__file__).parents[1] / "fixtures" / "lilt" / "image_towers.npz"
SIZES = {"image_size": 48, "patch_size": 16, "width": 12, "layers": 2, "heads": 3}
TINY = {
    "vit": ViTConfig(**SIZES),
    "deit3": DeiT3Config(**SIZES),
    "clip": ClipViTConfig(**SIZES),
    "swin": SwinConfig(image_size=32, patch_size=4, width=8, layers=(2, 2), heads=(2, 4), window=3),
}
# Published counts at 256 pixels; Swin's are torchvision's, its classifier subtracted.
COUNTS = {
    "vit_tiny": 5_535_936,
    "vit_small": 21_688_704,
    "vit_base": 85_844_736,
    "vit_base_dino": 85_844_736,
    "deit3_large": 303_411_200,
    "swin_tiny": 28_288_354 - 769_000,
    "swin_small": 49_606_258 - 769_000,
    "swin_base": 87_768_224 - 1_025_000,
}
SPEC_RULES = {"norm": "norm", "dense": "mlp", "attention": "attn", "adapter": "adapter", "bias": "bias"}


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture
def tower_of():
    """``tower_of("vit", "adapters")``: a tiny tower with random parameters, biases too, and what is added to it."""

    def build(kind, *added):
        torch.manual_seed(0)
        tower = TINY[kind].build().double()
        for addition in added:
            tower.insert_adapters(4) if addition == "adapters" else tower.append_block()
        tower.double()
        with torch.no_grad():
            for parameter in tower.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        return tower

    return build


def pictures(tower, count=2):
    size, weight = tower.image_size, next(tower.parameters())
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(3)).to(weight.dtype)


def weights_of(golden, name):
    """Those of a golden tower with additions are kept where they differ from the bare tower's."""
    bare, found = f"{name.partition('_')[0]}/weights/", f"{name}/weights/"
    return {key[len(prefix) :]: golden[key] for prefix in (bare, found) for key in golden if key.startswith(prefix)}


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit", "vit_adapters", "vit_appended", "deit3", "deit3_adapters"])
def test_tokens_are_those_of_the_published_code(golden, name):
    kind, _, added = name.partition("_")
    tower = TINY[kind].build()
    if added == "adapters":
        tower.insert_adapters(4)
    elif added:
        tower.append_block()
    tower.load_state_dict(weights_of(golden, name))
    expected = golden[f"{name}/tokens"]
    torch.testing.assert_close(tower(golden["image"]).vector, expected[:, 0], rtol=1e-5, atol=1e-5)
    tower.keeps_states = True
    output = tower(golden["image"])
    torch.testing.assert_close(output.states, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(output.vector, output.states[:, 0]) and output.mask is None


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_as_many_as_published(name):
    tower = without_values(tower_config(IMAGE_TOWERS, "--image-tower", name).build)
    assert sum(parameter.numel() for parameter in tower.parameters()) == COUNTS[name]


@pytest.mark.parametrize("kind", ["vit", "deit3", "clip"])
def test_the_class_token_alone_has_the_values_and_gradients_of_all_tokens(tower_of, kind):
    tower = tower_of(kind, "adapters", "block")
    images, lengths = pictures(tower), []
    block = (tower.transformer.resblocks if kind == "clip" else tower.blocks)[-1]
    block.mlp.register_forward_hook(lambda _, given, __: lengths.append(given[0].shape[1]))
    outputs, upstream = [], torch.randn(2, 12).double()
    for tower.keeps_states in (False, True):
        output = tower(images)
        outputs.append((output.vector, *torch.autograd.grad(output.vector, list(tower.parameters()), upstream)))
        assert (output.states is not None) == tower.keeps_states
    assert lengths == [1, 10]
    for found, expected in zip(*outputs, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", TINY)
def test_parts_are_the_published_rules_on_names(tower_of, kind):
    tower = tower_of(kind, "adapters", "block")
    names = [name for name, _ in tower.named_parameters()]
    found = {part: {name for name in names if re.search(getattr(tower.parts, part), name)} for part in SPEC_RULES}
    if kind in ("vit", "deit3"):
        assert found == {part: {name for name in names if word in name} for part, word in SPEC_RULES.items()}
        assert {n for n in names if re.search(tower.parts.block.format(1), n)} == {
            n for n in names if n.startswith("blocks.1.")
        }
    modules = dict(tower.named_modules())
    normed = {n for n in names if isinstance(modules[n.rpartition(".")[0]], torch.nn.LayerNorm)}
    assert found["norm"] == normed
    assert found["bias"] == {name for name in names if name.endswith("bias")}
    blocks = {"clip": "transformer.resblocks.2.", "swin": "features.3.2."}
    behind = {"clip": "ln_post."}.get(kind, "norm.")
    last = {name for name in names if name.startswith((blocks.get(kind, "blocks.2."), behind))}
    assert {name for name in names if re.search(tower.parts.last, name)} == last
    assert len(found["adapter"]) == 8 * (5 if kind == "swin" else 3)


@torch.no_grad()
@pytest.mark.parametrize("kind", TINY)
def test_adapters_stand_on_the_inputs_of_both_branches(tower_of, kind):
    bare, adapted = tower_of(kind), tower_of(kind, "adapters")
    adapters = {name for name in adapted.state_dict() if "adapter" in name}
    adapted.load_state_dict({**adapted.state_dict(), **bare.state_dict()})
    images = pictures(bare)
    assert not torch.allclose(adapted(images).vector, bare(images).vector)
    for name in adapters:
        if "up_sampler" in name:
            adapted.get_parameter(name).zero_()
    torch.testing.assert_close(adapted(images).vector, bare(images).vector)
    norms = {"clip": ("ln_1", "ln_2")}.get(kind, ("norm1", "norm2"))
    block = adapted.get_submodule(sorted(adapters)[0].partition(".adapter")[0])
    for name, adapter in zip(norms, ("adapter1", "adapter2")):
        # x + 1 is x behind a normalisation, and nowhere else. CLIP's normalisation computes in float32.
        block.get_submodule(adapter).up_sampler.bias.fill_(1.0)
        torch.testing.assert_close(adapted(images).vector, bare(images).vector, rtol=1e-5, atol=1e-5)
        given = []
        hooks = [block.get_submodule(one).register_forward_hook(keep(given)) for one in (adapter, name)]
        adapted(images)
        [hook.remove() for hook in hooks]
        torch.testing.assert_close(given[1], given[0] + 1)


def keep(inputs):
    """A forward hook that appends a module's input."""
    return lambda _, given, __: inputs.append(given[0])


@pytest.mark.parametrize("kind", TINY)
def test_adapters_and_appended_blocks_come_in_any_order(tower_of, kind):
    one, other = tower_of(kind, "adapters", "block"), tower_of(kind, "block", "adapters")
    shapes = [{name: tensor.shape for name, tensor in tower.state_dict().items()} for tower in (one, other)]
    assert shapes[0] == shapes[1]
    blocks = [tower_of(kind, *["block"] * more).state_dict().keys() for more in range(3)]
    assert len(blocks[2]) - len(blocks[1]) == len(blocks[1]) - len(blocks[0]) > 0


@pytest.mark.parametrize("kind", ["vit", "deit3", "clip", "swin"])
def test_what_is_added_is_drawn_as_published(kind):
    torch.manual_seed(0)
    config = ClipViTConfig(32, 16, 64, 1, 4) if kind == "clip" else TINY[kind]
    config = type(config)(32, 16, 64, 1, 4) if kind in ("vit", "deit3") else config
    tower = config.build()
    own = tower.state_dict().keys()
    tower.insert_adapters(4)
    tower.append_block()
    for name, parameter in tower.named_parameters():
        if name in own:
            continue
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "gamma" in name:
            assert (parameter == 1e-4).all()
        elif parameter.dim() == 1:
            assert (parameter == 1).all(), name
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=4 / parameter.numel() ** 0.5), name


@pytest.mark.parametrize("kind", TINY)
def test_frozen_parts_build_no_graph(tower_of, kind):
    tower = tower_of(kind, "block").requires_grad_(False)
    images, needs = pictures(tower), []
    assert not tower(images).vector.requires_grad
    for name, parameter in tower.named_parameters():
        parameter.requires_grad = bool(re.search(tower.parts.last, name))
    blocks = [m for n, m in tower.named_modules() if re.search(r"(^|\.)(blocks|resblocks|features\.[13])\.\d+$", n)]
    for block in blocks:
        block.register_forward_hook(lambda _, __, given: needs.append(given.requires_grad))
    assert tower(images).vector.requires_grad
    assert len(needs) > 2 and needs == [False] * (len(needs) - 1) + [True]


@torch.no_grad()
def test_swin_is_torchvision_s():
    from torchvision.models.swin_transformer import SwinTransformer

    torch.manual_seed(0)
    whole = SwinTransformer([4, 4], 8, [2, 2], [2, 4], [3, 3], stochastic_depth_prob=0.0).eval()
    for parameter in whole.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    tower = TINY["swin"].build().eval()
    tower.load_state_dict({n: tensor for n, tensor in whole.state_dict().items() if not n.startswith("head.")})
    images = pictures(tower)
    states = whole.norm(whole.features(images)).flatten(1, 2)
    tower.keeps_states = True
    output = tower(images)
    torch.testing.assert_close(output.states, states)
    torch.testing.assert_close(whole.head(output.vector), whole(images))
    tower.append_block()
    tower.append_block()
    assert [block.attn.shift_size for block in tower.features[-1]] == [[0, 0], [1, 1], [0, 0], [1, 1]]


@torch.no_grad()
def test_clip_s_tower_is_that_of_the_clip_package_without_projection(random_clip):
    visual = random_clip.visual
    tower = ClipViTConfig(image_size=32, patch_size=8, width=128, layers=2, heads=2).build()
    tower.load_state_dict({name: tensor for name, tensor in visual.state_dict().items() if name != "proj"})
    images = pictures(tower)
    torch.testing.assert_close(tower(images).vector @ visual.proj, visual(images), rtol=1e-5, atol=1e-6)
    assert tower.width == 128


@torch.no_grad()
def test_given_features_stay_as_they_are():
    features = torch.randn(3, 5)
    assert FeaturesConfig(5).build()(features).vector is features
    grid, states = FeatureGridConfig(4, 5).build(), torch.randn(3, 4, 5)
    grid.keeps_states = True
    output = grid(states)
    torch.testing.assert_close(output.vector, states.sum(1) / 4)
    assert output.states is states and grid.width == 5 and not list(grid.parameters())


def test_half_precision_parameters_take_pictures_as_they_come(tower_of):
    for kind in TINY:
        tower = tower_of(kind)
        images = pictures(tower)
        expected = tower(images).vector
        found = tower.to(torch.bfloat16)(images.float()).vector
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.double(), expected, rtol=0.1, atol=0.2)


@pytest.mark.parametrize("kind", [*TINY, "features", "feature_grid"])
def test_other_shapes_are_named(kind):
    config = {"features": FeaturesConfig(7), "feature_grid": FeatureGridConfig(3, 7), **TINY}[kind]
    with pytest.raises(ValueError, match=r"of shape \(3, 24, 24\) given to an image tower for \("):
        config.build()(torch.zeros(1, 3, 24, 24))


@pytest.mark.parametrize(
    "config, message",
    [
        (ViTConfig(image_size=30), "image size 30 is not a multiple of the patch size 16"),
        (ViTConfig(width=10, heads=4), "width 10 is not a multiple of the number of attention heads 4"),
        (DeiT3Config(patch_size=0), "image size 256 is not a multiple of the patch size 0"),
        (ClipViTConfig(image_size=30), "image size 30 is not a multiple of the patch size 32"),
        (ClipViTConfig(activation="relu"), "there is no activation 'relu': there are quick_gelu, gelu"),
        (SwinConfig(heads=(3, 6)), "each stage needs some of both"),
        (SwinConfig(heads=(3, 6, 12, 25)), "width 768 is not a multiple of the number of attention heads 25"),
        (FeaturesConfig(), "say how many dimensions the given features have"),
    ],
)
def test_impossible_dimensions_are_the_user_s_errors(config, message):
    with pytest.raises(UserError, match=message):
        config.build()


@pytest.mark.parametrize("kind", TINY)
def test_a_bottleneck_without_dimensions_is_the_user_s_error(tower_of, kind):
    for reduction in (0, 1000):
        with pytest.raises(UserError, match=f"an adapter of width .* // {reduction} has no dimensions"):
            tower_of(kind).insert_adapters(reduction)


def test_every_image_tower_has_a_name():
    assert {*COUNTS, "clip_vit_b32", "clip_vit_b16", "clip_vit_l14", "features", "feature_grid"} <= set(
        known(IMAGE_TOWERS)
    )
