"""A tiny model with a fusion encoder, whose tokens are the letters of a text."""

from types import SimpleNamespace

import torch

from mlvl_fairseq.api import Model
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.modules.towers.bert import BertConfig
from mlvl_fairseq.modules.towers.swin import SwinConfig
from mlvl_fairseq.networks.cclm import CclmNetwork


def fusion_of_letters() -> Model:
    torch.manual_seed(0)
    image = SwinConfig(image_size=32, width=4, layers=(1, 1), heads=(1, 2), window=4)
    text = BertConfig(vocab_size=30, width=8, layers=2, heads=2, ffn_width=16, max_positions=20)
    network = CclmNetwork(image.build(), text.build(), 8, fusion_layers=3).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    tokenizer = SimpleNamespace(pad=0, name="letters", own_languages=(), of_language=lambda lang: tokenizer)
    tokenizer.tokenize = lambda texts, longest: [[1, *(2 + ord(c) % 26 for c in text), 29] for text in texts]
    return Model(Encoder(network, tokenizer, "0" * 64, [], "cclm.pt"))
