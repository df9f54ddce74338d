"""Checkpoints with the names of LilT's published code become ours, weight by weight, with what was added to towers."""

import logging

import numpy as np
import pytest
import released_lilt as released
import torch
from golden import load_golden
from golden_lilt import NETWORK_PRESETS, TABLE, arrays, golden_batch, initial_weights
from torch.nn.functional import normalize

from mlvl_fairseq.checkpoints.check import without_values
from mlvl_fairseq.checkpoints.formats.lilt import read_lilt
from mlvl_fairseq.checkpoints.lilt_config import LiltConfig, plain_values, preset_name
from mlvl_fairseq.checkpoints.source import WeightSource
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.inference import Encoder
from mlvl_fairseq.networks.dual_encoder import DualEncoderNetwork
from mlvl_fairseq.networks.lilt_import import configs_of, convert_lilt, options_of

COUNTS = load_golden("lilt_counts")
VOCABULARY, DIMS, ROWS = 40, 8, 5  # ROWS: a 2 x 2 square of patches and the class token
TEXT = ["A red ball, on the grass!", "two-dogs / run " * 30]


@pytest.fixture(scope="module")
def wordpiece(tmp_path_factory):
    words = ("a", "red", "ball", "on", "the", "grass", "two", "dogs", "run")
    return released.vocabulary(tmp_path_factory.mktemp("bert"), VOCABULARY, words)


def tiny(image_blocks=12, layers=2, image_adapter=0, text_adapter=0, width=192):
    """ViT-Ti on 32 pixels and BERT-tiny with few words."""
    return {
        **released.vit_shapes(width, image_blocks, ROWS, bottleneck=image_adapter),
        **released.bert_shapes(128, layers, VOCABULARY, bottleneck=text_adapter),
        **released.head_shapes(width, 128, DIMS),
    }


def only(insert, **changes):
    return {**released.LWA, "conventional_adapter": {"insert": insert, "reduction_factor": 4}, **changes}


CASES = {
    "full": (tiny(), {}, "full"),
    "lit": (tiny(), {"freeze_vision_encoder": True}, "lit"),
    "lilt_lwa": (tiny(image_adapter=48, text_adapter=32), released.LWA, "lwa+ln"),
    "lwa_image": (tiny(image_adapter=48), only("vision_only"), "lwa_image+ln"),
    "lwa_text": (tiny(text_adapter=32), only("language_only", bitfit="language_only"), "lwa_text+ln+bitfit_text"),
    "lilt_da": (tiny(13, 3), released.DA, "da+ln"),
    "both": (tiny(13, 3, 48, 32), {**released.LWA, **released.DA}, "lwa+da+ln"),
    "no_append_in_text": (tiny(13), {**released.DA, "pretrained_text": False}, "da_image+unlock_last_text+ln"),
    "frozen_blocks": (tiny(), {"always_freeze": {"visual_encoder": [0, 2], "text_encoder": [1]}}, "full"),
}


@pytest.mark.parametrize("case", CASES)
def test_every_weight_and_what_was_published_arrive(case, wordpiece, tmp_path):
    shapes, changes, preset = CASES[case]
    tensors = released.random_tensors(shapes)
    file = released.save(tmp_path / "checkpoint_14.pth", tensors, released.config(**changes))
    path = convert_lilt(file, tmp_path / "out", wordpiece)
    content = torch.load(path, weights_only=True)
    assert content["cfg"]["model"]["preset"] == preset
    network = Encoder.load(path).network
    assert network.state_dict().keys() == tensors.keys()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, tensors[name]), name
    assert (network.transform, network.preprocess.size) == ("lilt", 32) and network.frozen_dropout
    frozen = [content["cfg"]["model"].get(f"always_freeze_{side}") for side in ("image", "text")]
    assert frozen == (["0,2", "1"] if case == "frozen_blocks" else [None, None])


def test_captions_are_cut_as_published(wordpiece, tmp_path):
    """Cleaned, [CLS] but no [SEP], 30 ids in evaluation."""
    file = released.save(tmp_path / "file.pth", released.random_tensors(tiny()), released.config())
    path = convert_lilt(file, tmp_path / "out", wordpiece)
    first, second = Encoder.load(path).tokenize(TEXT)
    assert list(first) == [2, 5, 6, 7, 8, 9, 10]
    assert list(second) == [2, *[11, 12, 13] * 10][:30]
    assert torch.load(path, weights_only=True)["cfg"]["task"]["max_length"] == 25


@pytest.mark.parametrize("mode", NETWORK_PRESETS)
def test_vectors_are_those_of_the_published_code(mode, wordpiece, tmp_path):
    """Its own small towers with its own weights: outputs of the golden files."""
    changes = {"da": {"adapter_append": True}}.get(mode)
    file = released.save(tmp_path / "file.pth", initial_weights(mode), changes)
    heads = (TABLE["towers"]["vit"]["heads"], TABLE["towers"]["bert"]["heads"])
    path = convert_lilt(file, tmp_path / "out", wordpiece, "vit_tiny", "bert_tiny", *heads)
    network, batch = Encoder.load(path).network, golden_batch()
    with torch.no_grad():
        text = network.encode_text(batch["net_input"]["tokens"], batch["net_input"]["eos_positions"])
        image = network.encode_image(batch["image_features"])
    for encoded, name in ((image, "image"), (text, "text")):
        expected = arrays(f"{mode}_{name}_feat", "network")
        torch.testing.assert_close(normalize(encoded.vector, dim=-1), expected, rtol=0, atol=1e-5)
    preset = torch.load(path, weights_only=True)["cfg"]["model"]["preset"]
    assert ("append" in preset, "lwa" in preset) == (mode == "da", "lwa" in mode)


SIZES = {  # width, blocks, bottleneck of a fourth
    "tiny": (192, 12), "small": (384, 12), "base": (768, 12), "base_dino": (768, 12), "large": (1024, 24),
}  # fmt: skip
TEXT_SIZES = {
    "tiny": (128, 2, 30522), "small": (512, 4, 30522), "base": (768, 12, 30522), "base_mlm": (768, 12, 30522),
    "large": (1024, 24, 30522), "base_multilingual": (768, 12, 119547),
}  # fmt: skip
MODES = {
    "clip_full": ({}, "full"),
    "lwa_r4_plus_ln (experiments/pretrain_lilt.sh)": (released.LWA, "lwa+ln"),
    "da_plus_ln": (released.DA, "da+ln"),
}


def published_file(image, text, mode, says_its_sizes=True):
    """What is read of a published file, without its numbers."""
    (width, blocks), (inner, layers, words) = SIZES[image], TEXT_SIZES[text]
    adapters, more = mode.startswith("lwa"), mode.startswith("da")
    is_scaled = image == "large"
    bottlenecks = (width // 4 if adapters and image != "base_dino" else 0, inner // 4 if adapters else 0)
    shapes = {
        **released.vit_shapes(width, blocks + more, 256 + (not is_scaled), 16, is_scaled, bottlenecks[0]),
        **released.bert_shapes(inner, layers + more, words, bottleneck=bottlenecks[1]),
        **released.head_shapes(width, inner, 256),
    }
    sizes = {"image_res": 256, "embed_dim": 256, "vision_encoder": image, "text_encoder": text}
    changes = {**MODES[mode][0], **(sizes if says_its_sizes else {})}
    return {
        "model": released.without_numbers(shapes),
        "config": released.config(**changes) if says_its_sizes else None,
        "epoch": 14,
    }


def published_total(sizes, mode):
    row = COUNTS["counts"][sizes][mode]
    return row["total"] if isinstance(row, dict) else row[1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sizes", COUNTS["counts"])
def test_towers_of_all_published_sizes_are_found(sizes, mode, monkeypatch, tmp_path):
    """With and without the configuration, on the meta device; the totals are the published code's."""
    image, text = sizes.split("/")
    for says_its_sizes in (True, False):
        monkeypatch.setattr(WeightSource, "state", published_file(image, text, mode, says_its_sizes))
        file = read_lilt(tmp_path)
        options = options_of(file)
        configs, every = configs_of(options, TEXT_SIZES[text][2])
        network = without_values(lambda: DualEncoderNetwork.of_options(every, configs))
        assert {name: one.shape for name, one in network.state_dict().items()} == {
            name: one.shape for name, one in file.tensors.items()
        }
        assert sum(one.numel() for one in file.tensors.values()) == published_total(sizes, mode)
        if says_its_sizes:
            expected = f"deit3_{image}" if image == "large" else f"vit_{image}", f"bert_{text}"
            assert (options["image_tower"], options["text_tower"]) == expected
            preset = MODES[mode][1]
            assert options["preset"] == ("lwa_text+ln" if image == "base_dino" and "lwa" in mode else preset)
        heads = configs.image.width // configs.image.heads, configs.text.width // configs.text.heads
        assert heads == (64, 64)


def test_a_configuration_of_hydra_is_read_as_values(root):
    """It keeps the time of the run in a dictionary that torch does not fill, and is not resolved."""
    state = WeightSource(root / "tests" / "fixtures" / "lilt" / "hydra_config.pth").state
    values = plain_values(state["config"], "file")
    assert values["conventional_adapter"] == {"insert": True, "reduction_factor": 4} and values["save_last_only"]
    assert values["optimizer"]["lr"] == 1e-4 and values["always_freeze"] == {"visual_encoder": [], "text_encoder": []}
    nodes = released.config(train_file="${oc.env:HOME}", model_config={"import_path": "${temp}"})
    assert plain_values(nodes, "file")["train_file"] == "${oc.env:HOME}"
    nodes._content["alpha"] = nodes
    with pytest.raises(DataError, match="nested too deeply"):
        plain_values(nodes, "file")


WRONG = [
    (tiny(image_adapter=48, text_adapter=32), {}, "insert': is False, and the image tower has adapters"),
    (tiny(image_adapter=48), released.LWA, "insert': is True, and the text tower has none"),
    (tiny(image_adapter=48, text_adapter=32), {**released.LWA, "vision_encoder": "base_dino"},
     "vision_encoder': is base_dino, a tower of 12 blocks of width 768; the tensors are 12 of width 192"),
    (tiny(13, 3), {}, "vision_encoder': is tiny, a tower of 12 blocks of width 192; the tensors are 13"),
    (tiny(12, 3), released.DA, "a tower of 12 blocks of width 192, with adapter_append one more; the tensors are 12"),
    (tiny(image_adapter=24, text_adapter=16), released.LWA, "reduction_factor': is 4, and the adapters have 24 dimen"),
    (tiny(), {"image_res": 64}, "image_res': is 64, and the tensors show 32"),
    (tiny(), {"embed_dim": 256}, "embed_dim': is 256, and the tensors show 8"),
    (tiny(), {"bitfit": "both"}, "config.bitfit'"),
    (tiny(), {"text_encoder": "huge"}, "config.text_encoder huge is not what its tensors are: one of bert_base, "),
    ({**tiny(), "visual_encoder.head.weight": (3, 192)}, {}, "visual_encoder.head.weight': unknown tensor"),
    ({**tiny(), "text_encoder.pooler.dense.bias": (128,)}, {}, "text_encoder.pooler.dense.bias': unknown tensor"),
    ({**tiny(), **released.linear("visual_encoder.blocks.3.adapter1.down_sampler", 192, 48)}, only("vision_only"),
     "tensor is missing"),
    ({n: s for n, s in tiny().items() if n != "visual_encoder.norm.bias"}, {}, "norm.bias': tensor is missing"),
    ({**tiny(), "visual_encoder.pos_embed": (1, 7, 192)}, {}, "pos_embed': tensor has shape [1, 7, 192], which is no"),
]  # fmt: skip


@pytest.mark.parametrize("shapes, changes, message", WRONG)
def test_what_does_not_fit_together_is_one_line(shapes, changes, message, wordpiece, tmp_path, monkeypatch):
    content = {"model": released.without_numbers(shapes), "config": released.config(**changes)}
    monkeypatch.setattr(WeightSource, "state", content)
    with pytest.raises((DataError, UserError)) as error:
        convert_lilt(tmp_path, tmp_path / "out", wordpiece)
    assert message in str(error.value) and "\n" not in str(error.value) and str(tmp_path) in str(error.value)
    assert not (tmp_path / "out").exists()


def test_options_say_what_tensors_do_not_show(wordpiece, tmp_path):
    file = released.save(tmp_path / "file.pth", released.random_tensors(tiny(2, 1, width=36)))
    with pytest.raises(UserError, match=r"width 36, vit_tiny 192: .* give --image-heads"):
        convert_lilt(file, tmp_path / "out", wordpiece, "vit_tiny")
    with pytest.raises(UserError, match="--image-tower deit3_large is not what its tensors are"):
        convert_lilt(file, tmp_path / "out", wordpiece, "deit3_large")
    network = Encoder.load(convert_lilt(file, tmp_path / "out", wordpiece, "vit_tiny", image_heads=3)).network
    assert network.visual_encoder.blocks[0].attn.heads == 3 and len(network.visual_encoder.blocks) == 2
    other = released.vocabulary(tmp_path, 39)
    with pytest.raises(UserError, match="has 39 tokens, the text tower of .*file.pth 40"):
        convert_lilt(file, tmp_path / "other", other, "vit_tiny", image_heads=3)


def test_a_small_deit3_keeps_its_scales(wordpiece, tmp_path):
    shapes = {
        **released.vit_shapes(32, 2, 4, scaled=True, bottleneck=8),
        **released.bert_shapes(128, 2, VOCABULARY, bottleneck=32),
        **released.head_shapes(32, 128, DIMS),
    }
    file = released.save(tmp_path / "file.pth", released.random_tensors(shapes))
    with pytest.raises(UserError, match="width 32, deit3_large 1024"):
        convert_lilt(file, tmp_path / "out", wordpiece)
    network = Encoder.load(convert_lilt(file, tmp_path / "out", wordpiece, image_heads=2)).network
    assert torch.equal(
        network.visual_encoder.blocks[1].gamma_2, read_lilt(file).tensors["visual_encoder.blocks.1.gamma_2"]
    )


@pytest.mark.parametrize("changes, preset", [
    ({"freeze_text_encoder": True, "unlock_dense": True}, "full_image+unlock_dense"),
    ({"freeze_text_encoder": True, "freeze_vision_encoder": True}, "proj"),
    ({"freeze_text_encoder": True, "freeze_vision_encoder": True, "freeze_proj": True}, "proj+no_proj"),
    ({"freeze_text_encoder": True, "freeze_vision_encoder": True, "add_adapter": True}, "unlock_last"),
    ({"freeze_text_encoder": True, "freeze_vision_encoder": True, "bitfit": "vision_only"}, "bitfit_image"),
])  # fmt: skip
def test_flags_have_presets(changes, preset):
    assert preset_name(LiltConfig(**changes), [], []) == preset


class Evil:
    """Pickles as a call that leaves a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("where", ["config", "optimizer", "inside"])
def test_a_file_that_would_run_code_is_refused_in_one_line(where, wordpiece, tmp_path, run_here, capsys, caplog):
    evil, changes = Evil(tmp_path / "executed"), {}
    if where == "inside":
        nodes = released.config()
        nodes._content["alpha"]._val = evil
        changes = {"config": nodes}
    else:
        changes = {where: evil}
    file = released.save(tmp_path / "file.pth", released.random_tensors(tiny(1, 1)), **changes)
    with pytest.raises(SystemExit) as end:
        run_here("mlvl-convert", "lilt", file, tmp_path / "out", "--wordpiece", wordpiece)
    assert end.value.code == 2 and not (tmp_path / "executed").exists()
    (said,) = (capsys.readouterr().err + caplog.text).splitlines()
    assert "file.pth: holds an object of type 'io.open'" in said and "nothing was executed" in said


def test_the_command_says_what_it_found(wordpiece, tmp_path, run_here, caplog):
    shapes = tiny(image_adapter=48, text_adapter=32)
    file = released.save(tmp_path / "file.pth", released.random_tensors(shapes), released.config(**released.LWA))
    with pytest.raises(SystemExit) as end, caplog.at_level(logging.INFO):
        run_here("mlvl-convert", "lilt", file, tmp_path / "out", "--wordpiece", wordpiece)
    assert end.value.code == 0
    encoder = Encoder.load(tmp_path / "out" / "lilt.pt")
    vectors = encoder.encode_texts(TEXT)
    assert vectors.shape == (2, DIMS) and np.isfinite(vectors).all()
    assert "preset lwa+ln" in caplog.text and "epoch 15" in caplog.text
