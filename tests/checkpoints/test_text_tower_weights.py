"""Files that text towers start from: names of every age, what is left out, and what does not fit."""

import json
import logging

import pytest
import torch
from safetensors.torch import save_file

from mlvl_fairseq.checkpoints.clip import CLIPWeights
from mlvl_fairseq.checkpoints.formats.huggingface_clip import to_huggingface
from mlvl_fairseq.checkpoints.formats.xlmr import XlmrWeights, write_xlmr
from mlvl_fairseq.checkpoints.towers import load_tower
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.modules.towers.bert import BertConfig, XlmrTowerConfig
from mlvl_fairseq.modules.towers.clip_text import TextConfig
from mlvl_fairseq.modules.towers.clip_text_tower import ClipTextTowerConfig
from mlvl_fairseq.modules.towers.xlmr import XlmrConfig

SMALL = {"vocab_size": 30, "width": 16, "layers": 2, "heads": 2, "ffn_width": 24, "max_positions": 12}
SAID = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "type_vocab_size": 2,
}
WORDS, POSITIONS = "embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight"


def drawn(module, seed=0):
    """Every tensor of a module random, by its name."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(value.shape, generator=generator) for name, value in module.state_dict().items()}


@pytest.fixture
def weights():
    return drawn(BertConfig(**SMALL).build())


@pytest.fixture
def write(tmp_path):
    """Writes a Hugging Face folder of tensors and a configuration."""

    def to_folder(tensors, file="model.safetensors", **said):
        (tmp_path / "config.json").write_text(json.dumps({**SAID, **said}))
        save = save_file if file.endswith(".safetensors") else torch.save
        save({name: value.clone() for name, value in tensors.items()}, tmp_path / file)
        return tmp_path

    return to_folder


def loaded(path, config=None):
    config = config or BertConfig(**SMALL)
    tower = config.build()
    load_tower(tower, config, path)
    return tower.state_dict()


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("prefix", ["", "bert.", "model.bert."])
def test_names_of_every_class(write, weights, file, prefix, caplog):
    theirs = {prefix + name: value for name, value in weights.items()}
    heads = {f"{prefix}pooler.dense.weight": torch.zeros(2, 2), "cls.predictions.bias": torch.zeros(3)}
    with caplog.at_level(logging.INFO):
        assert_same(loaded(write({**theirs, **heads}, file)), weights)
    assert "left out cls (1 tensors), pooler (1 tensors)" in caplog.text


def test_names_of_2018(write, weights):
    theirs = {
        f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in weights.items()
    }
    assert any("gamma" in name for name in theirs)
    assert_same(loaded(write(theirs, "pytorch_model.bin")), weights)


@pytest.mark.parametrize("token_types", ["fold", "drop"])
def test_token_types(write, weights, token_types, caplog):
    types = torch.randn(2, 16)
    with caplog.at_level(logging.INFO):
        found = loaded(
            write({**weights, "embeddings.token_type_embeddings.weight": types}),
            BertConfig(**SMALL, token_types=token_types),
        )
    told = {"fold": "row 0 of its token types is added to the positions", "drop": "its token types are dropped"}
    assert told[token_types] in caplog.text
    added = types[0] if token_types == "fold" else 0
    assert_same(found, {**weights, POSITIONS: weights[POSITIONS] + added})


def test_fewer_positions_and_rows_that_only_pad(write, weights, caplog):
    config = BertConfig(**{**SMALL, "vocab_size": 25, "max_positions": 8})
    with caplog.at_level(logging.INFO):
        found = loaded(write(weights), config)
    assert_same(found, {**weights, WORDS: weights[WORDS][:25], POSITIONS: weights[POSITIONS][:8]})
    assert f"{WORDS}: the first 25 of 30 rows are used" in caplog.text
    assert f"{POSITIONS}: the first 8 of 12 rows are used" in caplog.text


def test_adapters_and_appended_layers_stay_fresh(write, weights):
    config = BertConfig(**SMALL)
    tower = config.build()
    tower.insert_adapters(4), tower.append_block()
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    load_tower(tower, config, write(weights))
    fresh = {name: value for name, value in before.items() if name not in weights}
    assert any("layer.2." in name for name in fresh) and any("adapter" in name for name in fresh)
    assert_same(tower.state_dict(), {**before, **weights})


@pytest.mark.parametrize(
    "said, message",
    [
        (
            {"num_attention_heads": 4},
            "'num_attention_heads': these weights have heads 4, .*: give --text-heads 4",
        ),
        ({"intermediate_size": 64}, "these weights have ffn_width 64, .* 24: give --text-ffn-width 64"),
        ({"hidden_size": 32}, "these weights have width 32"),
        ({"num_hidden_layers": 3}, "these weights have layers 3"),
        ({"hidden_act": "gelu_new"}, "field 'hidden_act': is 'gelu_new'"),
        ({"position_embedding_type": "relative_key"}, "field 'position_embedding_type': is 'relative_key'"),
        ({"model_type": "xlm-roberta"}, "field 'model_type': is 'xlm-roberta', not bert; choose another --text-tower"),
        ({"hidden_size": "16"}, "field 'hidden_size'"),
        ({"hidden_size": None}, "field 'hidden_size'"),
    ],
)
def test_configurations_of_other_towers(write, weights, said, message):
    with pytest.raises(DataError, match=message) as error:
        loaded(write(weights, **said))
    assert "\n" not in str(error.value) and "config.json" in str(error.value)


@pytest.mark.parametrize(
    "change, message",
    [
        ({WORDS: torch.zeros(29, 16)}, "has 29 rows for 30 tokens: give the tokenizer it was trained with"),
        ({WORDS: torch.zeros(200, 16)}, "has 200 rows for 30 tokens"),
        ({WORDS: torch.zeros(30, 8)}, r"tensor has shape \[30, 8\], expected \[30, 16\]"),
        ({WORDS: torch.zeros(30)}, r"tensor has shape \[30\], expected \[30, 16\]"),
        ({POSITIONS: torch.zeros(11, 16)}, "has 11 rows for 12 positions"),
        ({"embeddings.token_type_embeddings.weight": torch.zeros(2, 8)}, "does not fit the positions"),
        ({"encoder.layer.2.output.dense.bias": torch.zeros(16)}, "encoder.layer.2.output.dense.bias': unknown tensor"),
        ({"second.embeddings.word_embeddings.weight": torch.zeros(1)}, "holds 2 encoders of text"),
    ],
)
def test_tensors_that_do_not_fit(write, weights, change, message):
    with pytest.raises(DataError, match=message) as error:
        loaded(write({**weights, **change}))
    assert "\n" not in str(error.value)


def test_what_is_missing(write, weights, tmp_path):
    lacking = {name: value for name, value in weights.items() if "layer.1.output.dense.bias" not in name}
    with pytest.raises(DataError, match="layer.1.output.dense.bias': tensor is missing"):
        loaded(write(lacking))
    with pytest.raises(DataError, match="holds no encoders of text"):
        loaded(write({"a": torch.zeros(1)}))
    (tmp_path / "config.json").unlink()
    with pytest.raises(DataError, match="config.json: .*a Hugging Face folder has it beside the weights"):
        loaded(tmp_path)


@torch.no_grad()
def test_xlmr_of_fairseq(tmp_path):
    """The same states as fairseq's own encoder; positions behind the padding."""
    of_fairseq = XlmrConfig(30, layers=2, width=16, ffn_width=24, heads=2, max_positions=12)
    encoder = of_fairseq.build().eval()
    for parameter in encoder.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape))
    tensors = {name: value for name, value in encoder.state_dict().items() if name != "version"}
    write_xlmr(XlmrWeights(of_fairseq, tensors, "test"), tmp_path / "model.pt")
    config = XlmrTowerConfig(**SMALL)
    for path in (tmp_path, tmp_path / "model.pt"):
        tower = config.build().eval()
        load_tower(tower, config, path)
        tokens, last = torch.tensor([[0, 5, 6, 7, 2], [0, 9, 2, 1, 1]]), torch.tensor([4, 2])
        tower.keeps_states = True
        given = tower(tokens, last)
        torch.testing.assert_close(given.states[given.mask], encoder(tokens)[given.mask], rtol=0, atol=1e-5)
    with pytest.raises(DataError, match="these weights have heads 2, the text tower 4: give --text-heads 2"):
        loaded(tmp_path, XlmrTowerConfig(**{**SMALL, "heads": 4}))
    with pytest.raises(DataError, match="has 30 rows for 31 tokens"):
        loaded(tmp_path, XlmrTowerConfig(**{**SMALL, "vocab_size": 31}))
    with pytest.raises(DataError, match="config.json"):
        loaded(tmp_path, BertConfig(**SMALL))


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """A CLIP without image tower in Hugging Face's layout."""
    config = TextConfig(40, width=64, layers=2, heads=1, embed_dim=8, context_length=12)
    folder, text = tmp_path_factory.mktemp("clip"), drawn(config.build())
    to_huggingface(CLIPWeights.from_tensors("test", text, {}, torch.tensor(1.0), text_heads=1), folder)
    return folder, text


@torch.no_grad()
def test_clip_s_text_tower(clip_folder):
    folder, text = clip_folder
    config = ClipTextTowerConfig(40, width=64, layers=2, heads=1, max_positions=12)
    tower = config.build()
    load_tower(tower, config, folder)
    whole = TextConfig(40, 64, 2, 1, 8, 12).build()
    whole.load_state_dict(text)
    tokens, last = torch.randint(40, (40, 12)), torch.randint(12, (40,))
    given = tower(tokens, last)
    torch.testing.assert_close(given.vector @ whole.text_projection, whole(tokens, last), rtol=1e-4, atol=1e-4)
    tower.keeps_states = True
    states = tower(tokens, last)
    torch.testing.assert_close(states.vector, given.vector, rtol=1e-4, atol=1e-4)
    assert states.states.shape == (40, 12, 64) and torch.equal(states.mask.sum(1), last + 1)
    tower.insert_adapters(4)
    assert not torch.allclose(tower(tokens, last).vector, given.vector, atol=1e-3)
    tower.append_block()
    assert {"transformer.resblocks.2.adapter2.up_sampler.weight"} <= tower.state_dict().keys()


def test_clip_s_text_tower_that_does_not_fit(clip_folder):
    folder, _ = clip_folder
    dimensions = {"vocab_size": 40, "width": 64, "layers": 2, "heads": 1, "max_positions": 12}
    for name, value in (("vocab_size", 41), ("layers", 3), ("heads", 2)):
        with pytest.raises(DataError, match=f"its text tower has {name} {dimensions[name]}, not {value}"):
            loaded(folder, ClipTextTowerConfig(**{**dimensions, name: value}))
    with pytest.raises(DataError, match="positional_embedding': has 12 rows for 13 positions"):
        loaded(folder, ClipTextTowerConfig(**{**dimensions, "max_positions": 13}))
    with pytest.raises(UserError, match="its activation is quick_gelu, not gelu"):
        loaded(folder, ClipTextTowerConfig(**dimensions, activation="gelu"))
    with pytest.raises(UserError, match="no activation 'relu'"):
        ClipTextTowerConfig(**dimensions, activation="relu").build()
    with pytest.raises(UserError, match="width 64 is not a multiple of the number of attention heads 5"):
        ClipTextTowerConfig(40, width=64, heads=5).build()
