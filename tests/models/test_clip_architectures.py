"""The named architectures: their dimensions, and that options win over them."""

from argparse import Namespace
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_NAME_REGISTRY

from mlvl_fairseq.checkpoints.clip import CLIPWeights
from mlvl_fairseq.cli import cll
from mlvl_fairseq.data.text import ClipTokenizer, clip_vocabulary
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.models.clip import ClipConfig, ClipModel
from mlvl_fairseq.modules.expandable_embedding import GrowthOptions
from mlvl_fairseq.modules.towers.clip_text import TextConfig
from mlvl_fairseq.modules.towers.clip_vision import VisionConfig
from mlvl_fairseq.networks import dual_encoder
from mlvl_fairseq.networks.clip import ARCHITECTURES, ClipDimensions, ClipOptions, architecture_of


def dimensions(arch, **given):
    args = Namespace(**given)
    ARCH_CONFIG_REGISTRY[arch](args)
    return vars(args)


def task(vocab_size):
    return SimpleNamespace(
        source_dictionary=range(vocab_size),
        trains_image_tower=True,
        default_freeze="",
        image_feature_dim=20,
        growth=GrowthOptions(),
        tokenizer=ClipTokenizer(clip_vocabulary()),
    )


@pytest.mark.parametrize("arch, parameters", [
    ("clip_vit_b32", 151_277_313), ("clip_vit_b16", 149_620_737), ("clip_vit_l14", 427_616_513)
])  # fmt: skip
def test_official_architectures_have_as_many_parameters_as_openai_s(arch, parameters):
    with torch.device("meta"):
        model = ClipModel.build_model(ClipConfig(**dimensions(arch)), task(vocab_size=49408))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


SMALL = [name for name in ARCHITECTURES if ClipConfig(**dimensions(name)).text_width < 512]  # quick to make


@pytest.mark.parametrize("arch", SMALL)
def test_small_architectures_encode_captions_and_images(arch):
    cfg = ClipConfig(**dimensions(arch))
    shape = (2, 20) if str(cfg.image_tower) == "features" else (2, 3, cfg.image_size, cfg.image_size)
    images, model = torch.randn(shape), ClipModel.build_model(cfg, task(vocab_size=50))
    features = model(torch.tensor([[1, 2, 3]] * 2), torch.tensor([2, 1]), images)
    assert features["text"].shape == features["image"].shape == (2, cfg.embed_dim)


OPENAI = {  # width, layers, heads of the text and the image tower, patch, dimension (Radford et al. 2021)
    "clip_vit_b32": (512, 12, 8, 768, 12, 12, 32, 512),
    "clip_vit_b16": (512, 12, 8, 768, 12, 12, 16, 512),
    "clip_vit_l14": (768, 12, 12, 1024, 24, 16, 14, 768),
}


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("arch", OPENAI)
def test_the_architecture_that_weights_fit(arch, activation):
    """Grown vocabularies and both activations included; not a tower of other heads."""
    width, layers, heads, *vision, patch, dim = OPENAI[arch]
    text = TextConfig(50_000, width, layers, heads, dim, activation=activation)
    image = VisionConfig(224, patch, *vision, dim, activation=activation)
    weights = CLIPWeights({}, {}, None, text, image, "f" * 64, "ViT.pt")
    assert architecture_of(weights) == arch
    assert architecture_of(replace(weights, vision_config=replace(image, heads=2))) is None
    small = ClipDimensions.of_options(replace(ClipOptions(), **ARCHITECTURES["clip_tiny_vit"]), 50_000, True)
    with pytest.raises(UserError, match=rf"ViT.pt: the text tower has width .*: choose --arch {arch}, which fits it$"):
        small.check(weights)


def test_what_is_typed_wins():
    assert dimensions("clip_vit_l14", text_width=256)["text_width"] == 256
    assert dimensions("clip_vit_l14")["text_width"] == 768


def test_help_of_sequences_names_every_architecture(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "clip_newcomer", {})
    text = " ".join(cll.build_parser().format_help().split())
    assert f"{', '.join(ARCHITECTURES)}, lilt, " in text and "clip_newcomer" in text
    assert f"{', '.join(dual_encoder.ARCHITECTURES)} (default: clip_vit_b32)" in text


def test_every_architecture_is_registered_for_the_model():
    assert {arch for arch, model in ARCH_MODEL_NAME_REGISTRY.items() if model == "clip"} >= ARCHITECTURES.keys()
