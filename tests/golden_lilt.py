"""Tiny towers of LilT's published code, their input, what they give (``fixtures/golden_lilt_network``) and how it
trained them (``fixtures/golden_lilt_updates``)."""

from types import SimpleNamespace

import numpy as np
import torch
from golden import FIXTURES, load_golden

from mlvl_fairseq.modules.towers.bert import BertConfig
from mlvl_fairseq.modules.towers.vit import ViTConfig
from mlvl_fairseq.networks.dual_encoder import DualEncoderNetwork
from mlvl_fairseq.networks.freezing import freeze_parameters
from mlvl_fairseq.networks.peft import add_parts, rules_of_preset

TABLE = load_golden("lilt_updates")
PRESETS = {"full": "full", "ln": "ln", "bitfit": "bitfit", "lwa": "lwa+ln"}  # of the modes in the table
NETWORK = load_golden("lilt_network")
NETWORK_PRESETS = {**PRESETS, "lit": "lit", "lwa_language_only": "lwa_text", "da": "da+ln"}
ROWS = 4


def arrays(name, of="updates"):
    with np.load(FIXTURES / f"golden_lilt_{of}.npz") as file:
        return torch.from_numpy(file[name])


def cut(flat, shapes):
    """(name, shape) of tensors that lie one after the other -> the tensors by name."""
    parts = flat.split([torch.Size(shape).numel() for _, shape in shapes])
    return {name: part.view(torch.Size(shape)) for (name, shape), part in zip(shapes, parts, strict=True)}


def golden_network(mode):
    """With the published code's initial weights, ready for training."""
    sizes, text = TABLE["towers"]["vit"], TABLE["towers"]["bert"]
    vit = ViTConfig(sizes["img"], sizes["patch"], sizes["dim"], sizes["depth"], sizes["heads"])
    bert = BertConfig(
        *(text[name] for name in ("vocab", "hidden", "layers", "heads", "inter", "max_pos")),
        dropout=0.0,
        attention_dropout=0.0,
    )
    network = DualEncoderNetwork(vit.build(), bert.build(), TABLE["towers"]["embed_dim"])
    options = SimpleNamespace(
        preset=NETWORK_PRESETS[mode],
        adapter_reduction=TABLE["towers"]["reduction_factor"],
        always_freeze_image="",
        always_freeze_text="",
    )
    add_parts(network, options)
    freeze_parameters(network, rules_of_preset(network, options), f"--preset {options.preset}")
    network.load_state_dict(initial_weights(mode))
    return network.train()


def initial_weights(mode):
    if "init" in NETWORK["modes"][mode]:
        return cut(arrays(f"{mode}_init", "network"), NETWORK["modes"][mode]["init"])
    init = TABLE["modes"].get(mode, {"init": "full"})["init"]
    source = init if isinstance(init, str) else mode
    return cut(arrays(f"{source}_init"), TABLE["modes"][source]["init"])


def first_gradients(network, mode):
    """Of what trains, by name."""
    parameters = dict(network.named_parameters())
    return cut(arrays(f"{mode}_grads", "network"), [(n, parameters[n].shape) for n in NETWORK["modes"][mode]["grads"]])


def golden_batch(rows=slice(None)):
    """A batch as `image_text_retrieval` makes it."""
    last = arrays("attention_mask")[rows].sum(1) - 1
    return {
        "net_input": {"tokens": arrays("input_ids")[rows], "eos_positions": last},
        "image_features": arrays("image")[rows],
        "image_ids": torch.arange(ROWS)[rows],
        "nsentences": len(last),
        "ntokens": int(last.sum()) + len(last),
    }


def weights_after_two_updates(mode):
    """Of what trains, by name."""
    row, parameters = TABLE["modes"][mode], dict(golden_network(mode).named_parameters())
    shapes = [(name, parameters[name].shape) for name in row["no_decay"] + row["decay"]]
    return cut(arrays(f"{mode}_after2"), shapes)
