"""What trains with every preset: numbers and names of LilT's published code, on the meta device."""

from functools import lru_cache
from types import SimpleNamespace

import pytest
from golden import load_golden

from mlvl_fairseq.checkpoints.check import without_values
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.networks.dual_encoder import DualEncoderNetwork, DualEncoderOptions, TowerConfigs
from mlvl_fairseq.networks.freezing import Counts, freeze_parameters
from mlvl_fairseq.networks.peft import LoraOptions, PeftOptions, rules_of_preset
from mlvl_fairseq.networks.presets import list_presets, preset

GOLDEN = load_golden("lilt_counts")
PRESETS = {
    "clip_full": "full",
    "lit_frozen_image": "lit",
    "frozen_text": "full_image",
    "proj_only": "proj",
    "nothing_but_temp": "proj+no_proj",
    "ln_both": "ln",
    "ln_vision_only": "ln_image",
    "ln_language_only": "ln_text",
    "ln_both_no_proj": "ln+no_proj",
    "bitfit_both": "bitfit",
    "bitfit_vision_only": "bitfit_image",
    "bitfit_language_only": "bitfit_text",
    "bitfit_plus_ln": "bitfit+ln",
    "lwa_r4": "lwa",
    "lwa_r4_plus_ln (experiments/pretrain_lilt.sh)": "LilT_LwA",
    "lwa_r4_plus_ln_plus_bitfit": "lwa+ln+bitfit",
    "lwa_r2": "lwa",
    "lwa_r8": "lwa",
    "lwa_r16": "lwa",
    "lwa_vision_only": "lwa_image",
    "lwa_language_only": "lwa_text",
    "lwa_r4_no_proj": "lwa+no_proj",
    "da (append+unlock last)": "da",
    "da_plus_ln": "LilT_DA",
    "da_no_proj": "da+no_proj",
    "unlock_last_layer (add_adapter, no append)": "unlock_last",
    "unlock_last_layer_plus_ln": "unlock_last+ln",
    "append_only_frozen (adapter_append without add_adapter)": "append",
    "unlock_dense": "unlock_dense",
    "unlock_attn": "unlock_attn",
    "unlock_dense_attn": "unlock_dense+unlock_attn",
    "lit_plus_vision_ln": "lit+ln_image",
    "lit_plus_vision_adapters": "lit+lwa_image",
    "clip_always_freeze_first6": "full",
}
REDUCTIONS = {"lwa_r2": 2, "lwa_r8": 8, "lwa_r16": 16}
IMAGE = {"large": "deit3_large"}  # vit_<size> the others


@lru_cache(maxsize=None)
def network_of(image, text, adds, reduction):
    """With what the preset `adds` adds."""
    options = options_of(image, text, adds, reduction)
    return without_values(lambda: DualEncoderNetwork.of_options(options, TowerConfigs.of_options(options)))


def options_of(image, text, name, reduction=4, blocks="", text_blocks=""):
    towers = DualEncoderOptions(image_tower=IMAGE.get(image, f"vit_{image}"), text_tower=f"bert_{text}")
    peft = PeftOptions(preset=name, adapter_reduction=reduction)
    frozen = {"always_freeze_image": blocks, "always_freeze_text": text_blocks}
    return SimpleNamespace(**{**vars(towers), **vars(peft), **vars(LoraOptions()), **frozen})


def frozen_network(mode, image, text):
    """A network in one of the published code's modes; networks of equal structure are the same one."""
    name, reduction, blocks = PRESETS[mode], REDUCTIONS.get(mode, 4), ""
    if image == "base_dino" and "lwa" in mode:  # the published code leaves image adapters out without a word
        name = {"lwa": "lwa_text", "LilT_LwA": "lwa_text+ln"}[name]
    if mode == "clip_always_freeze_first6":
        blocks = "0,1,2,3,4,5"
    text_blocks = "0,1" if blocks and text == "tiny" else blocks  # the published code takes the others for granted
    options = options_of(image, text, name, reduction, blocks, text_blocks)
    adds = {f"{side}.{part}" for side, part in preset(name).adds}
    kinds = {"lwa": "adapter", "append": "block"}
    structure = "+".join(
        f"{kind}_{side}" for kind, part in kinds.items() for side in ("image", "text") if f"{side}.{part}" in adds
    )
    network = network_of(image, text, structure or "full", reduction)
    network.requires_grad_(True)
    freeze_parameters(network, rules_of_preset(network, options), f"--preset {name}")
    return network


def test_all_counts_are_the_published_ones():
    compared = 0
    for sizes, modes in GOLDEN["counts"].items():
        for mode, row in modes.items():
            network = frozen_network(mode, *sizes.split("/"))
            trained = [(name, p.numel()) for name, p in network.named_parameters() if p.requires_grad]
            counts = Counts.of(network)
            if isinstance(row, list):
                assert [counts.trained, counts.total] == row, (sizes, mode)
            else:
                assert (counts.trained, counts.total) == (row["trainable"], row["total"]), (sizes, mode)
                assert len(trained) == row["tensors"], (sizes, mode)
                for part, numbers in row["parts"].items():
                    total = sum(p.numel() for name, p in network.named_parameters() if name.startswith(part))
                    assert [sum(n for name, n in trained if name.startswith(part)), total] == numbers, (sizes, mode)
            compared += 1
    assert compared == 124


def test_all_names_are_the_published_ones():
    for mode, numbers in GOLDEN["trained"].items():
        network = frozen_network(mode, "tiny", "tiny")
        trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
        assert trained == {GOLDEN["names"][number] for number in numbers}, mode


def test_percentages_are_of_the_total_with_and_without_added_parts():
    counts = Counts(14_672_385, 209_330_433, 14_201_856)
    assert f"{counts.percent:.4f} {counts.percent_of_base:.4f}" == "7.0092 7.5193"
    deep = Counts(14_646_273, 209_304_321, 209_304_321 - 195_128_577)
    assert f"{deep.percent:.4f} {deep.percent_of_base:.4f}" == "6.9976 7.5060"
    assert str(deep).startswith("14,646,273 of 209,304,321 parameters train (6.9976%; 7.5060% of the 195,128,577")
    assert str(Counts(1, 4)) == "1 of 4 parameters train (25.0000%)"


def test_added_parameters_are_counted():
    network = network_of("tiny", "tiny", "lwa", 4)
    assert network.added == 10_469_057 - 9_987_521


def test_presets_are_joined_and_divided():
    assert preset("lwa+ln") == preset("lwa") + preset("ln") == preset("LilT_LwA") == preset("lilt_lwa")
    assert preset("lwa_text").adds == (("text", "adapter"),)
    assert preset("lit") == preset("full_text") and preset("lit").parts("image") == []
    assert preset("full+lwa").parts("image") == ["", "adapter"]
    assert "lwa" in list_presets()
    for wrong in ("lwax", "lwa+", "proj_text", "lwa_"):
        with pytest.raises(UserError, match="--preset .*: there are full, lit, proj"):
            preset(wrong)


def test_with_a_whole_tower_what_is_added_trains_too():
    network = network_of("tiny", "tiny", "lwa_image", 4)
    network.requires_grad_(True)
    freeze_parameters(network, rules_of_preset(network, options_of("tiny", "tiny", "full+lwa_image")), "")
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_one_linear_layer_of_each_block_is_drawn_by_the_seed():
    options, network = options_of("tiny", "tiny", "unlock_random"), network_of("tiny", "tiny", "full", 4)

    def drawn(seed):
        network.requires_grad_(True)
        freeze_parameters(network, rules_of_preset(network, options, seed), "--preset")
        return [n for n, p in network.named_parameters() if p.requires_grad and n.startswith(("visual", "text_enc"))]

    assert drawn(1) == drawn(1) != drawn(2)
    blocks = [name.split(".")[2 if name.startswith("visual") else 3] for name in drawn(1)]
    assert blocks == [str(number) for number in range(12) for _ in range(2)] + ["0", "0", "1", "1"]


@pytest.mark.parametrize("options, message", [
    ({"name": "full", "blocks": "0,12"}, "--always-freeze-image 0,12: the image tower has no block 12"),
    ({"name": "full", "text_blocks": "a"}, "--always-freeze-text a: give numbers of blocks"),
])  # fmt: skip
def test_blocks_that_are_not_there(options, message):
    with pytest.raises(UserError, match=message):
        rules_of_preset(network_of("tiny", "tiny", "full", 4), options_of("tiny", "tiny", **options))


@pytest.mark.parametrize("options, message", [
    ({"preset": "lwa", "image_tower": "features"}, "--preset lwa: .*no layerwise adapters.*there is ..._text"),
    ({"preset": "lwa", "adapter_reduction": 0}, "--adapter-reduction 0 is not between 1 and the width"),
    ({"preset": "lora", "lora_rank": 0}, "--lora-rank 0 is less than 1"),
    ({"preset": "lora", "lora_targets": "nothing"}, "--lora-targets 'nothing' finds no linear layer"),
    ({"preset": "lora", "lora_targets": "("}, r"--lora-targets \( is no regular expression"),
])  # fmt: skip
def test_what_cannot_be_added(options, message):
    every = options_of("tiny", "tiny", "full")
    every = SimpleNamespace(**{**vars(every), "image_feature_dim": 7 if "image_tower" in options else None, **options})
    with pytest.raises(UserError, match=message):
        without_values(lambda: DualEncoderNetwork.of_options(every, TowerConfigs.of_options(every)))


def test_a_tower_without_parameters_has_nothing_to_freeze():
    every = options_of("tiny", "tiny", "ln")
    every.image_tower, every.image_feature_dim = "features", 7
    network = without_values(lambda: DualEncoderNetwork.of_options(every, TowerConfigs.of_options(every)))
    freeze_parameters(network, rules_of_preset(network, every), "--preset ln")
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert all("LayerNorm" in name or "proj" in name or name == "temp" for name in trained) and len(trained) > 5


def test_dimensions_that_a_tower_does_not_have_are_refused():
    every = options_of("tiny", "tiny", "full")
    every.image_tower, every.image_patch_size = "features", 7
    with pytest.raises(UserError, match="--image-tower features has no --image-patch-size"):
        TowerConfigs.of_options(every)
    every.image_tower = "vit_huge"
    with pytest.raises(UserError, match="--image-tower vit_huge: there are "):
        TowerConfigs.of_options(every)


def test_updates_train_alone():
    options, network = options_of("tiny", "tiny", "lora"), network_of("tiny", "tiny", "lora", 4)
    freeze_parameters(network, rules_of_preset(network, options), "--preset lora")
    trained = [name for name, p in network.named_parameters() if p.requires_grad and "proj." not in name]
    assert trained and all(name == "temp" or ".lora." in name for name in trained)
