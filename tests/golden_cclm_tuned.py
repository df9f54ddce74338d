"""The published code's tiny CCLM as it was fine-tuned: its input, and what it gives (``fixtures/golden_cclm_tuned``).
Its weights are those of pre-training, with all matrices twice as large."""

import numpy as np
import torch
from golden import FIXTURES, load_golden
from golden_cclm import POSITIONS, VOCABULARY, WIDTH, our_name, published_weights

from mlvl_fairseq.modules.towers.cclm_text import CclmTextConfig
from mlvl_fairseq.modules.towers.swin import SwinConfig
from mlvl_fairseq.networks.cclm import CclmNetwork

TABLE = load_golden("cclm_tuned")


def doubled(name, tensor):
    return 2 * tensor if tensor.dim() > 1 else tensor


def pretrained():
    """All weights of pre-training, by our names."""
    return {our_name(name): doubled(name, tensor) for name, tensor in published_weights().items()}


def head_weights(kind):
    """Of the head that fine-tuning adds, by their published names."""
    with np.load(FIXTURES / "golden_cclm_tuned.npz") as file:
        own = [name for name in file if name.startswith(f"{kind}.")]
        return {name.removeprefix(f"{kind}."): torch.from_numpy(file[name]) for name in own}


def pictures(kind):
    """[rows, images a text, 3, 64, 64]."""
    found = []
    for seed in TABLE["pictures"][kind]:
        generator = torch.Generator().manual_seed(seed)
        found.append(torch.randn(len(TABLE[kind]["tokens"]), 3, 64, 64, generator=generator))
    return torch.stack(found, 1)


def inputs(kind):
    """Of :meth:`CclmNetwork.forward`."""
    tokens = torch.tensor(TABLE[kind]["tokens"])
    return {
        "tokens": tokens,
        "eos_positions": (tokens != 1).sum(1) - 1,
        "images": pictures(kind).flatten(0, 1),
    }


def tuned_network(kind, **options):
    """As fine-tuning begins: what it has of pre-training, and the golden head."""
    swin = SwinConfig(64, 4, 4, (2, 2, 2, 2), (1, 2, 2, 4), 2)
    text = CclmTextConfig(VOCABULARY, WIDTH, 6, 4, 64, POSITIONS, dropout=0.0, attention_dropout=0.0)
    network = CclmNetwork(swin.build(), text.build(), 16, 6, **options)
    given = pretrained()
    given = {**given, **network.started(given), **head_weights(kind)}
    own = network.state_dict()
    indices = {name: tensor for name, tensor in own.items() if "relative_position_index" in name}
    network.load_state_dict({**indices, **{name: tensor for name, tensor in given.items() if name in own}})
    return network.train()  # nothing in it is random


def published_tuned(kind):
    """The state dict of a fine-tuned model as the published code saves it."""
    plain = {name: doubled(name, tensor) for name, tensor in published_weights().items()}
    layer, found = "text_encoder.encoder.layer.", head_weights(kind)
    for name, tensor in plain.items():
        inner = name.replace("text_encoder.bert.", "text_encoder.")
        if name.startswith("vision_encoder.") or inner.startswith("text_encoder.e"):
            number, _, rest = inner.removeprefix(layer).partition(".")
            if kind.startswith("nlvr") and inner.startswith(layer) and int(number) >= 6:
                for copy in (0, 1):
                    found[f"{layer}{2 * int(number) - 6 + copy}.{rest}"] = tensor
            else:
                found[inner] = tensor
        if kind == "nlvr_domain" and name.startswith("vision_proj."):
            found[name] = tensor
        if kind == "vqa" and name.startswith("text_encoder."):
            number, _, rest = name.removeprefix("text_encoder.bert.encoder.layer.").partition(".")
            if not number.isdecimal():
                found[name.replace("text_encoder.", "text_decoder.")] = tensor
            elif int(number) >= 6:
                found[f"text_decoder.bert.encoder.layer.{int(number) - 6}.{rest}"] = tensor
    if kind == "vqa":
        head = "text_decoder.cls.predictions."
        found[f"{head}decoder.weight"] = found["text_decoder.bert.embeddings.word_embeddings.weight"].clone()
        found[f"{head}decoder.bias"] = found[f"{head}bias"].clone()
        found["text_decoder.bert.embeddings.position_ids"] = torch.arange(POSITIONS)[None]
    found["text_encoder.embeddings.position_ids"] = torch.arange(POSITIONS)[None]
    return found
