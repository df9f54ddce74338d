"""Whether texts need to be encoded again: weights are changed one by one, and the features say which ones matter."""

import pytest
import torch

from mlvl_fairseq.data.text import ClipTokenizer, clip_vocabulary
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.modules.adapters import ADAPTERS, TowerShape, build_adapter
from mlvl_fairseq.modules.towers.clip_text import CLIPTextTower
from mlvl_fairseq.networks.clip import ClipNetwork

CAPTIONS = ["a red ball", "two dogs on the street", "a dog"]
EMBEDDING = "text.token_embedding.weight"


@pytest.fixture(scope="module")
def tokenizer():
    return ClipTokenizer(clip_vocabulary())


def encoder_with(adapter, tokenizer):
    torch.manual_seed(3)
    tower = CLIPTextTower(len(tokenizer), 8, layers=2, heads=2, embed_dim=6, context_length=12)
    own = adapter and build_adapter(adapter, None, TowerShape.of(tower), ["en", "de"])
    network = ClipNetwork(tower, None, own)
    with torch.no_grad():
        for parameter in own.parameters() if own else ():
            parameter += 0.3 * torch.randn_like(parameter)
    return Encoder(network.eval(), tokenizer, "", ["en", "de"], "test")


@pytest.mark.parametrize("adapter", [None, *sorted(ADAPTERS)])
def test_no_weight_that_features_depend_on_is_forgotten(adapter, tokenizer):
    encoder = encoder_with(adapter, tokenizer)

    def found():
        return encoder.text_fingerprint(CAPTIONS, "en"), encoder.encode_texts(CAPTIONS, "en").tobytes()

    before, changed = found(), {}
    for name, tensor in encoder.network.state_dict().items():
        kept = tensor.clone()
        tensor += torch.randn(tensor.shape).to(tensor)
        after = found()
        changed[name] = after[0] != before[0]
        assert changed[name] or after[1] == before[1], name
        tensor.copy_(kept)
    assert found() == before and all(changed[name] for name in changed if name.startswith("text."))
    if adapter and encoder.network.adapter.needs_language:
        parts = {name: change for name, change in changed.items() if name.startswith("adapter.parts.")}
        assert parts == {name: name.startswith("adapter.parts.0.") for name in parts}


def test_only_the_rows_of_the_texts_count(tokenizer):
    encoder = encoder_with(None, tokenizer)
    before = encoder.text_fingerprint(CAPTIONS)
    used = {token for ids in encoder.tokenize(CAPTIONS) for token in ids}
    weight = encoder.network.text.token_embedding.weight.data
    for row in [*sorted(used), 5, 49405]:
        kept = weight[row].clone()
        weight[row, 0] += 1
        assert (encoder.text_fingerprint(CAPTIONS) != before) == (row in used)
        weight[row] = kept


def test_texts_and_how_they_are_cut_count(tokenizer, monkeypatch):
    encoder = encoder_with("lora", tokenizer)
    variants = [(CAPTIONS, "en"), (CAPTIONS, "de"), (CAPTIONS, None), (CAPTIONS[::-1], "en"), (CAPTIONS[:2], "en")]
    assert len({encoder.text_fingerprint(*variant) for variant in variants}) == len(variants)
    ids = encoder.tokenize(CAPTIONS)
    monkeypatch.setattr(encoder, "tokenize", lambda captions, lang: [ids[0] + ids[1][:2], ids[1][2:], ids[2]])
    assert encoder.text_fingerprint(CAPTIONS, "en") != encoder_with("lora", tokenizer).text_fingerprint(CAPTIONS, "en")
