"""Model ``cclm``: what it is built for, what trains of it, and what its checkpoints leave out."""

from argparse import Namespace
from types import SimpleNamespace

import pytest
import torch
from fairseq.models import ARCH_CONFIG_REGISTRY

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.models.cclm import CclmConfig, CclmModel
from mlvl_fairseq.modules.fusion import FusionEncoder
from mlvl_fairseq.modules.towers.cclm_text import CclmTextTower
from mlvl_fairseq.modules.towers.swin import SwinTower
from mlvl_fairseq.modules.towers.vit import ViTConfig
from mlvl_fairseq.networks.cclm import ARCHITECTURES

VIT = {"image_tower": "vit_tiny", "image_size": 16, "image_patch_size": 8, "image_width": 12, "image_layers": 2}


def task_of(shape=None, tokenizer="sentencepiece", longest=20):
    return SimpleNamespace(
        source_dictionary=range(50), tokenizer=SimpleNamespace(option=tokenizer), stream_features_shape=shape,
        max_positions=lambda: longest, seed_for=lambda purpose: purpose,
    )  # fmt: skip


def build(arch="cclm_tiny", task=None, **options):
    torch.manual_seed(0)
    return CclmModel.build_model(CclmConfig(**{**ARCHITECTURES[arch], **options}), task or task_of())


def without_swin(**options):
    """Options of a tower of another kind in an architecture."""
    return {"image_heads": 2, **VIT, **options}


@pytest.fixture(scope="module")
def deit(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "deit.pth"
    torch.manual_seed(5)
    torch.save({"model": ViTConfig(16, 8, 12, 2, 2).build().state_dict()}, path)
    return str(path)


@pytest.mark.parametrize(
    "arch, kinds, rates",
    [("cclm_tiny", (32, 32, 2, 2), 0.0), ("cclm_nano", (128, 128, 3, 3), 0.1)],
)
def test_small_architectures_are_small_cclms(arch, kinds, rates):
    model = build(arch)
    text, image = model.text_encoder, model.visual_encoder
    assert (type(text), type(image), type(model.fusion)) == (CclmTextTower, SwinTower, FusionEncoder)
    assert (image.width, text.width, len(text.encoder.layer), len(model.fusion.layer)) == kinds
    assert (text.vocab_size, model.preprocess.size, str(model.transform)) == (50, 64, "lilt")
    assert image.config.drop_path == rates and not model.fusion.layer[0].crossattention.self.own_maps
    assert model.encode_image(torch.zeros(1, 3, 64, 64)).states.shape == (1, 17, text.width)


def test_what_a_preset_freezes_of_a_file_stays_out_of_checkpoints(deit, caplog):
    with caplog.at_level("INFO"):
        model = build(image_weights=deit, preset="lit", **without_swin())
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith("visual_encoder.")}
    state = model.state_dict()
    assert not frozen & state.keys() and "image_fingerprint" in state
    assert {"fusion", "itm_head", "lm_head", "bbox_head", "text_encoder"} <= {name.split(".")[0] for name in state}
    other = build(image_weights=deit, preset="lit", negatives="gather", encode_chunk=3, **without_swin())
    assert (other.negatives, other.encode_chunk, model.negatives, model.encode_chunk) == ("gather", 3, "local", 0)
    torch.nn.init.zeros_(model.fusion.layer[0].output.dense.weight)
    state = model.state_dict()
    other.upgrade_state_dict(state)
    other.load_state_dict(state)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, other.get_parameter(name)), name
    assert "parameters train" in caplog.text


def test_what_trains_can_be_named():
    model = build(trainable="-. +crossattention")
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if "crossattention" in name}


def options_of(arch, **given):
    """As a command line sets them."""
    args = Namespace(**given)
    ARCH_CONFIG_REGISTRY[arch](args)
    return vars(args)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_another_tower_takes_what_it_has_of_an_architecture_s_dimensions(arch):
    given, own = options_of(arch, image_tower="feature_grid"), ARCHITECTURES[arch]
    assert given == {**{k: v for k, v in own.items() if not k.startswith("image_")}, "image_tower": "feature_grid"}
    vit = options_of(arch, image_tower="vit_tiny", image_layers=1)
    kept = {"image_size", "image_width"} & own.keys()
    assert {k: v for k, v in vit.items() if k.startswith("image_")} == {
        "image_tower": "vit_tiny", "image_layers": 1, **{k: own[k] for k in kept}
    }  # fmt: skip


def test_given_features_say_their_shape():
    none = options_of("cclm_tiny", image_tower="feature_grid")
    cfg = CclmConfig(**none)
    model = CclmModel.build_model(cfg, task_of((6, 5)))
    assert (cfg.image_positions, cfg.image_feature_dim) == (6, 5)
    assert model.encode_image(torch.zeros(2, 6, 5)).states.shape == (2, 7, 5)
    assert model.preprocess is None and model.fusion.layer[0].crossattention.self.own_maps
    cfg = CclmConfig(**{**none, "image_tower": "features"})
    model = CclmModel.build_model(cfg, task_of((5,)))
    assert model.encode_image(torch.zeros(2, 5)).states.shape == (2, 1, 5)
    with pytest.raises(UserError, match="--image-tower features takes given features, and the data have pictures"):
        CclmModel.build_model(cfg, task_of())


def test_a_task_says_what_heads_there_are():
    task = task_of()
    task.heads, task.images_per_text, task.classes = "labels", 2, ["False", "True"]
    cfg = CclmConfig(**ARCHITECTURES["cclm_tiny"])
    model = CclmModel.build_model(cfg, task)
    assert (cfg.heads, cfg.images_per_text, cfg.num_labels) == ("labels", 2, 2)
    assert len(model.fusion.layer) == 4 and model.cls_head[3].out_features == 2 and model.itm_head is None
    found = model(torch.tensor([[0, 5, 2]]), torch.tensor([2]), torch.zeros(2, 3, 64, 64), head="labels")
    assert found["logits"].shape == (1, 2)
    cfg = CclmConfig(**ARCHITECTURES["cclm_tiny"])
    CclmModel.build_model(cfg, task_of())
    assert (cfg.heads, cfg.images_per_text, cfg.num_labels) == ("matching,masked_lm,boxes", 1, 0)
    assert CclmModel.build_model(CclmConfig(**ARCHITECTURES["cclm_tiny"], heads=""), task).cls_head is None


@pytest.mark.parametrize(
    "task, message",
    [
        (
            task_of(tokenizer="wordpiece"),
            "cclm_xlmr_nano does not fit: it takes ids of a sentencepiece tokenizer",
        ),
        (task_of(longest=81), "--max-length 81 is more than the text tower's 80 tokens"),
        (SimpleNamespace(tokenizer=None), "this --arch does not fit --task SimpleNamespace: the task has no pairs of"),
    ],
)
def test_tasks_that_do_not_fit(task, message):
    with pytest.raises(UserError, match=message):
        build(task=task)


def test_rows_in_chunks_are_not_negative():
    with pytest.raises(UserError, match="--encode-chunk -1 is no number of rows"):
        build(encode_chunk=-1)


def test_layers_are_picked_of_a_file():
    with pytest.raises(UserError, match="--layers-from odd picks layers of --text-weights, which is not given"):
        build(layers_from="odd")
