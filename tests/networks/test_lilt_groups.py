"""How many numbers of a LilT of base size decay and how many do not, in LilT's published code."""

from types import SimpleNamespace

import pytest
import torch

from mlvl_fairseq.networks.dual_encoder import DualEncoderNetwork, TowerConfigs
from mlvl_fairseq.networks.freezing import freeze_parameters
from mlvl_fairseq.networks.peft import rules_of_preset
from mlvl_fairseq.optim.groups import memberships

VOCABULARY = 30522
PUBLISHED = {  # preset -> tensors and numbers in the group that does not decay, and in the one that does
    "full": ((223, 243_968), (128, 194_884_609)),
    "lit": ((124, 121_856), (77, 109_161_985)),
    "proj+no_proj": ((0, 0), (1, 1)),
    "lwa+ln": ((198, 123_392), (99, 14_548_993)),
    "lwa+ln+bitfit": ((319, 290_048), (99, 14_548_993)),
    "da+ln": ((120, 97_280), (13, 14_548_993)),
}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_group_sizes(preset):
    options = SimpleNamespace(
        **{"image_tower": "vit_base", "text_tower": "bert_base", "embed_dim": 256, "temperature": "clamped"},
        **{"frozen_dropout": False, "transform": "clip", "preset": preset, "adapter_reduction": 4},
        **{"always_freeze_image": "", "always_freeze_text": ""},
    )
    with torch.device("meta"):
        network = DualEncoderNetwork.of_options(options, TowerConfigs.of_options(options, VOCABULARY))
    freeze_parameters(network, rules_of_preset(network, options), f"--preset {preset}")
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    found = memberships(trained, "reference", "")
    for decays, expected in zip((False, True), PUBLISHED[preset]):
        sizes = [trained[name].numel() for name, membership in found.items() if membership.group.decays == decays]
        assert (len(sizes), sum(sizes)) == expected
