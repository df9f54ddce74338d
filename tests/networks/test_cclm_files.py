"""Layers of an XLM-R in a CCLM's text tower and fusion encoder."""

import json
import logging
from types import SimpleNamespace

import pytest
import torch

from mlvl_fairseq.checkpoints.formats.xlmr import XlmrWeights, write_xlmr
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.modules.towers.bert import BertConfig
from mlvl_fairseq.modules.towers.cclm_text import CclmTextConfig
from mlvl_fairseq.modules.towers.xlmr import XlmrConfig
from mlvl_fairseq.networks.cclm_files import pick_layers, text_tensors

ROWS, WIDTH, POSITIONS = 30, 16, 12
ORIGIN = [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23]  # golden: pretrain.layer_origin
HEAD = ("dense.weight", "dense.bias", "layer_norm.weight", "layer_norm.bias", "bias")
SAID = {
    "model_type": "xlm-roberta", "hidden_size": WIDTH, "num_attention_heads": 2, "intermediate_size": 24,
    "hidden_act": "gelu", "layer_norm_eps": 1e-5, "type_vocab_size": 1,
}  # fmt: skip


def config(layers=2, **changes):
    dimensions = {"vocab_size": ROWS, "width": WIDTH, "layers": layers, "heads": 2, "ffn_width": 24}
    return CclmTextConfig(**{**dimensions, "max_positions": POSITIONS, **changes})


def options(fusion_layers=2, layers_from=None):
    return SimpleNamespace(fusion_layers=fusion_layers, layers_from=layers_from)


def source(layers):
    """Every tensor of an encoder of so many layers random, in Hugging Face's names without what stands before them; a
    tensor of layer j begins with j."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, value in config(layers).build().state_dict().items():
        tensors[name] = torch.randn(value.shape, generator=generator)
        if name.startswith("encoder.layer."):
            tensors[name].flatten()[0] = float(name.split(".")[2])
    return tensors


def head_of(words):
    generator = torch.Generator().manual_seed(1)
    shapes = ((WIDTH, WIDTH), (WIDTH,), (WIDTH,), (WIDTH,), (ROWS,))
    found = {f"lm_head.{name}": torch.randn(shape, generator=generator) for name, shape in zip(HEAD, shapes)}
    return {**found, "lm_head.decoder.weight": words, "lm_head.decoder.bias": found["lm_head.bias"]}


def huggingface(folder, layers, head=True, said=(), edit=()):
    tensors = source(layers)
    every = {f"roberta.{name}": tensor for name, tensor in tensors.items()}
    every.update(head_of(tensors["embeddings.word_embeddings.weight"]) if head else {})
    every.update(edit)
    torch.save({name: tensor for name, tensor in every.items() if tensor is not None}, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps({**SAID, "num_hidden_layers": layers, **dict(said)}))
    return tensors


def layer_numbers(tensors):
    """For each of our layers the number that its tensors begin with."""
    found = {}
    for name, tensor in tensors.items():
        side, _, rest = name.partition("layer.")
        if rest and "crossattention" not in name:
            found.setdefault((side, int(rest.split(".")[0])), set()).add(float(tensor.flatten()[0]))
    assert all(len(numbers) == 1 for numbers in found.values())
    return {place: numbers.pop() for place, numbers in found.items()}


def test_published_layers_of_24(tmp_path, caplog):
    tensors = huggingface(tmp_path, 24)
    with caplog.at_level(logging.INFO):
        found = text_tensors(tmp_path, options(6), config(6))
    numbers = layer_numbers(found)
    assert [numbers[("text_encoder.encoder.", layer)] for layer in range(6)] == ORIGIN[:6]
    assert [numbers[("fusion.", layer)] for layer in range(6)] == ORIGIN[6:]
    for name, tensor in tensors.items():
        if name.startswith("embeddings."):
            assert torch.equal(found[f"text_encoder.{name}"], tensor)  # positions from row 0, the token type kept
    one = found["fusion.layer.2.attention.self.query.weight"]
    assert torch.equal(one, tensors["encoder.layer.17.attention.self.query.weight"])
    assert "layers 1,3,5,7,9,11,13,15,17,19,21,23 of 24" in caplog.text
    assert "cross-attention is in no such file: it is drawn from N(0, 0.02)" in caplog.text


def test_the_head_of_masked_tokens_comes_along(tmp_path, caplog):
    tensors = huggingface(tmp_path, 4)
    head = head_of(tensors["embeddings.word_embeddings.weight"])
    found = text_tensors(tmp_path, options(), config())
    own = {name: tensor for name, tensor in found.items() if name.startswith("lm_head.")}
    assert own.keys() == {f"lm_head.{name.replace('layer_norm', 'LayerNorm')}" for name in HEAD}
    for name in HEAD:
        assert torch.equal(own[f"lm_head.{name.replace('layer_norm', 'LayerNorm')}"], head[f"lm_head.{name}"])
    huggingface(tmp_path, 4, head=False)
    assert "lm_head.bias" not in text_tensors(tmp_path, options(), config())
    assert "has no head of masked tokens: it is random" in caplog.text


def test_rows_that_only_fill_the_table_are_cut_in_the_head_too(tmp_path):
    tensors = huggingface(tmp_path, 4)
    found = text_tensors(tmp_path, options(), config(vocab_size=ROWS - 2))
    assert torch.equal(found["text_encoder.embeddings.word_embeddings.weight"], tensors[WORDS][: ROWS - 2])
    assert torch.equal(found["lm_head.bias"], head_of(tensors[WORDS])["lm_head.bias"][: ROWS - 2])


WORDS = "embeddings.word_embeddings.weight"


def test_fairseq_s_file_gives_the_same(tmp_path):
    """`write_xlmr` gives what fairseq's own loader reads; its token types are zeros."""
    xlmr = XlmrConfig(ROWS, layers=4, width=WIDTH, ffn_width=24, heads=2, max_positions=POSITIONS - 2)
    generator = torch.Generator().manual_seed(3)
    state = {name: torch.randn(one.shape, generator=generator) for name, one in xlmr.build().state_dict().items()}
    state.pop("version", None)
    write_xlmr(XlmrWeights(xlmr, state, "file"), tmp_path / "model.pt")
    for path in (tmp_path, tmp_path / "model.pt"):
        found = text_tensors(path, options(layers_from="0,1,2,3"), config())
        assert torch.equal(found["fusion.layer.1.intermediate.dense.weight"], state["layers.3.fc1.weight"])
        assert torch.equal(
            found["text_encoder.encoder.layer.0.output.LayerNorm.bias"], state["layers.0.final_layer_norm.bias"]
        )
        assert torch.equal(found["text_encoder.embeddings.position_embeddings.weight"], state["embed_positions.weight"])
        assert not found["text_encoder.embeddings.token_type_embeddings.weight"].any()
        assert torch.equal(found["lm_head.dense.weight"], torch.eye(WIDTH))  # the untrained one that it writes


def test_a_bert_without_token_types_of_its_own(tmp_path):
    tensors = huggingface(tmp_path, 4, said={"model_type": "bert", "layer_norm_eps": 1e-12})
    bert = BertConfig(ROWS, WIDTH, 2, 2, 24, POSITIONS)
    found = text_tensors(tmp_path, options(layers_from="all"), bert)
    positions, types = (tensors[f"embeddings.{name}_embeddings.weight"] for name in ("position", "token_type"))
    torch.testing.assert_close(found["text_encoder.embeddings.position_embeddings.weight"], positions + types[0])


@pytest.mark.parametrize(
    "given, wanted, there, expected",
    [
        (None, 4, 8, [1, 3, 5, 7]), (None, 4, 4, [0, 1, 2, 3]), ("odd", 3, 12, [1, 3, 5]), ("all", 3, 3, [0, 1, 2]),
        ("5,0,5", 3, 6, [5, 0, 5]),
    ],
)  # fmt: skip
def test_layers_are_picked(given, wanted, there, expected):
    assert pick_layers(given, wanted, there, "file") == expected


@pytest.mark.parametrize(
    "given, wanted, there, message",
    [
        (None, 4, 6, "file has 6 layers for 4: say with --layers-from which"),
        ("all", 4, 6, "--layers-from all are 6 layers for 4"),
        ("odd", 4, 6, "--layers-from odd: file has 6 layers, 0 to 5, and no 7"),
        ("0,1", 4, 6, "--layers-from 0,1 are 2 layers for 4"),
        ("0,1,2,6", 4, 6, "file has 6 layers, 0 to 5, and no 6"),
        ("even", 4, 6, "--layers-from even: give odd, all, or numbers"),
        ("1,,2", 4, 6, "--layers-from 1,,2: give odd"),
    ],
)
def test_layers_that_are_not_there(given, wanted, there, message):
    with pytest.raises(UserError, match=message):
        pick_layers(given, wanted, there, "file")


LAYER = "roberta.encoder.layer"


@pytest.mark.parametrize(
    "changes, edit, message",
    [
        ({"width": 32}, {}, "these weights have width 16, the text tower 32"),
        ({"vocab_size": 40}, {}, "has 30 rows for 40 tokens"),
        ({"max_positions": 20}, {}, "has 12 rows for 20 positions"),
        ({}, {"lm_head.dense.bias": None}, "field 'lm_head.dense.bias': tensor is missing"),
        ({}, {"lm_head.bias": torch.ones(4)}, r"field 'lm_head.bias': tensor has shape \[4\], expected \[30\]"),
        ({}, {f"{LAYER}.3.output.dense.bias": None}, "'encoder.layer.3.output.dense.bias': tensor is missing"),
        ({}, {f"{LAYER}.4.output.dense.bias": torch.ones(16)}, "have layers 4, the text tower 5"),
        ({}, {"roberta.embeddings.LayerNorm.bias": torch.ones(8)}, r"'embeddings.LayerNorm.bias': tensor has shape"),
        ({}, {"roberta.encoder.layer.0.output.dense.bias": "text"}, "is a str, not a tensor"),
        ({}, {"roberta.embeddings.word_embeddings.weight": None}, "holds no encoders of text"),
    ],
)
def test_files_that_do_not_fit(tmp_path, changes, edit, message):
    huggingface(tmp_path, 4, edit=edit)
    with pytest.raises(DataError, match=message) as error:
        text_tensors(tmp_path, options(), config(**changes))
    assert "\n" not in str(error.value)
