"""The published code's tiny CCLM after fine-tuning for retrieval, its input, and what its two-stage evaluation gives
(``fixtures/golden_cclm_retrieval``)."""

import re

import numpy as np
import torch
from golden import FIXTURES, load_golden

from mlvl_fairseq.modules.towers.bert import BertConfig
from mlvl_fairseq.modules.towers.swin import SwinConfig
from mlvl_fairseq.networks.cclm import CclmNetwork

TEXT_LAYERS, FUSION_LAYERS = 6, 6
SWIN_PARTS = [
    (r"patch_embed\.proj\.", "features.0.0."),
    (r"patch_embed\.norm\.", "features.0.2."),
    (r"layers\.(\d+)\.blocks\.(\d+)\.", lambda m: f"features.{2 * int(m[1]) + 1}.{m[2]}."),
    (r"layers\.(\d+)\.downsample\.", lambda m: f"features.{2 * int(m[1]) + 2}."),
    (r"mlp\.fc1\.", "mlp.0."),
    (r"mlp\.fc2\.", "mlp.3."),
]


def golden_retrieval():
    """Sections of the table, and arrays by name."""
    with np.load(FIXTURES / "golden_cclm_retrieval.npz") as file:
        return load_golden("cclm_retrieval"), {name: file[name] for name in file}


def golden_network(arrays):
    """With the weights among `arrays`, whose names begin with ``weights.``, under the published names."""
    weights = {
        name.removeprefix("weights."): torch.from_numpy(array)
        for name, array in arrays.items()
        if name.startswith("weights.")
    }
    vocab, width = weights["text_encoder.embeddings.word_embeddings.weight"].shape
    positions = len(weights["text_encoder.embeddings.position_embeddings.weight"])
    text = BertConfig(vocab, width, TEXT_LAYERS, heads=4, ffn_width=64, max_positions=positions, norm_eps=1e-5)
    image = SwinConfig(image_size=64, width=4, layers=(2, 2, 2, 2), heads=(1, 2, 2, 4), window=2)
    network = CclmNetwork(image.build(), text.build(), 16, FUSION_LAYERS).eval()
    named = {_own_name(name): tensor for name, tensor in weights.items()}
    types = named.pop("text_encoder.embeddings.token_type_embeddings.weight")
    named["text_encoder.embeddings.position_embeddings.weight"] += types[0]
    missing, unexpected = network.load_state_dict(
        {name: tensor.flatten() if "position_index" in name else tensor for name, tensor in named.items()}, strict=False
    )
    assert not unexpected
    assert {name.split(".")[0] for name in missing} <= {"lm_head", "bbox_head"} | {"visual_encoder"} and not [
        name for name in missing if "visual" in name and "index" not in name
    ]
    return network


def _own_name(name):
    name = re.sub(r"^vision_encoder\.", "visual_encoder.", name)
    if name.startswith("visual_encoder."):
        for pattern, by in SWIN_PARTS:
            name = re.sub(pattern, by, name)
        return name
    layer = re.match(r"text_encoder\.encoder\.layer\.(\d+)\.", name)
    if layer and int(layer[1]) >= TEXT_LAYERS:
        return f"fusion.layer.{int(layer[1]) - TEXT_LAYERS}.{name[layer.end() :]}"
    return name
