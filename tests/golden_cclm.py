"""Tiny towers of CCLM's published code with their weights, its batches of each kind of step, and what they give
(``fixtures/golden_cclm_losses.json``, ``fixtures/golden_cclm_pretraining.npz``)."""

import re

import numpy as np
import torch
from golden import FIXTURES, load_golden
from golden_lilt import cut

from mlvl_fairseq.modules import hard_negatives
from mlvl_fairseq.modules.towers.cclm_text import CclmTextConfig
from mlvl_fairseq.modules.towers.swin import SwinConfig
from mlvl_fairseq.networks.cclm import CclmNetwork

TABLE = load_golden("cclm_losses")
STEPS = TABLE["steps"]
GRADIENTS = TABLE["gradients"]  # names of tensors, in the order of a step's `grad_norms`
ROWS, VOCABULARY, WIDTH, POSITIONS = 4, 120, 32, 70
RENAMED = [
    (r"^vision_encoder\.patch_embed\.proj\.", "visual_encoder.features.0.0."),
    (r"^vision_encoder\.patch_embed\.norm\.", "visual_encoder.features.0.2."),
    (r"^vision_encoder\.norm\.", "visual_encoder.norm."),
    (r"^vision_encoder\.layers\.(\d+)\.blocks\.", lambda m: f"visual_encoder.features.{2 * int(m[1]) + 1}."),
    (r"^vision_encoder\.layers\.(\d+)\.downsample\.", lambda m: f"visual_encoder.features.{2 * int(m[1]) + 2}."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
    (r"^text_encoder\.bert\.encoder\.layer\.(6|7|8|9|10|11)\.", lambda m: f"fusion.layer.{int(m[1]) - 6}."),
    (r"^text_encoder\.bert\.", "text_encoder."),
    (r"^text_encoder\.cls\.predictions\.(transform\.)?", "lm_head."),
]


def arrays(name):
    with np.load(FIXTURES / "golden_cclm_pretraining.npz") as file:
        return torch.from_numpy(file[name])


def our_name(name):
    """What a tensor of the published files is called here."""
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def published_weights():
    return cut(arrays("weights"), TABLE["shapes"])


def golden_network(**options):
    """With the published code's weights."""
    swin = SwinConfig(64, 4, 4, (2, 2, 2, 2), (1, 2, 2, 4), 2)
    text = CclmTextConfig(VOCABULARY, WIDTH, 6, 4, 64, POSITIONS, dropout=0.0, attention_dropout=0.0)
    network = CclmNetwork(swin.build(), text.build(), 16, 6, **options)
    ours = {our_name(name): tensor for name, tensor in published_weights().items()}
    buffers = {name: tensor for name, tensor in network.state_dict().items() if "relative_position_index" in name}
    network.load_state_dict({**buffers, **ours})
    return network.train()  # nothing in it is random but the negatives


def draw_likeliest(monkeypatch):
    """Draw what is likeliest, as the numbers were computed. Returns the list of weights that it was drawn by."""
    given = []

    def draw(weights, generator=None):
        given.append(weights)
        return weights.argmax(1)

    monkeypatch.setattr(hard_negatives, "draw", draw)
    return given


def _texts(tokens, mask):
    return arrays(tokens), arrays(mask).sum(1) - 1


def golden_batch(step):
    """A batch as `cclm_pretraining` makes it."""
    tokens, last = _texts("text_ids", "text_atts")
    inputs = {"tokens": tokens, "eos_positions": last, "ids": torch.arange(ROWS)}
    inputs.update(masked_tokens=arrays("text_ids_masked"), masked_positions=arrays("masked_pos"))
    batch = {"id": torch.arange(ROWS), "nsentences": ROWS, "ntokens": int(last.sum()) + ROWS, "stream": "image"}
    batch.update(net_input=inputs, masked_ids=arrays("masked_ids"))
    if step.startswith("region"):
        batch["stream"] = "region"
        inputs.update(images=arrays("region_image"), image_of=arrays("region_idx_to_group_img"))
        inputs["patches"] = arrays("region_image_atts")[:, 1:].bool()
        batch.update(boxes=arrays("region_target_bbox"), whole=arrays("region_is_image").bool())
    elif step.startswith("para_text"):
        batch["stream"] = "text"
        second, second_last = _texts("text_ids_2", "text_atts_2")
        inputs.update(view_tokens=tokens, view_eos_positions=last, tokens=second, eos_positions=second_last)
        inputs["images"] = None
        if step == "para_text_tlm":
            inputs["masked_eos_positions"] = last
    else:
        inputs["images"] = arrays("image")
    if step == "image_two_captions":
        inputs["second_tokens"], inputs["second_eos_positions"] = _texts("text_ids_2", "text_atts_2")
    return batch
