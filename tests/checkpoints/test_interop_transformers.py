"""Text towers, their files and WordPiece against `transformers` (extra ``interop``), on random weights."""

import json
import unicodedata

import pytest
import torch

from mlvl_fairseq.checkpoints.towers import load_tower
from mlvl_fairseq.data.text import load_tokenizer
from mlvl_fairseq.modules.padding import real_tokens
from mlvl_fairseq.modules.towers.bert import BertConfig, XlmrTowerConfig

transformers = pytest.importorskip("transformers")  # takes 12 s to import

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
OURS = {"vocab_size": 60, "width": 32, "layers": 3, "heads": 4, "ffn_width": 48}
KINDS = {
    "bert": (transformers.BertConfig, transformers.BertModel, BertConfig, {"max_position_embeddings": 20}),
    "xlmr": (
        transformers.XLMRobertaConfig,
        transformers.XLMRobertaModel,
        XlmrTowerConfig,
        {"max_position_embeddings": 22, "pad_token_id": 1, "layer_norm_eps": 1e-5, "type_vocab_size": 1},
    ),
}


def random_model(kind, model_class=None, **options):
    """A model with every parameter random, biases too, so that a forgotten one shows."""
    config, model, _, own = KINDS[kind]
    torch.manual_seed(0)
    model = (model_class or model)(config(**SIZES, **own, **options)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def captions(pad, rows=40, longest=12):
    generator = torch.Generator().manual_seed(1)
    last = torch.randint(longest, (rows,), generator=generator)
    last[0] = longest - 1
    mask = real_tokens(last, longest)
    return torch.where(mask, torch.randint(2, 60, (rows, longest), generator=generator), pad), last, mask


@pytest.fixture(params=["bert", "xlmr"])
def pair(request, tmp_path):
    """A model of theirs, and ours with the weights of the folder that it writes."""
    model = random_model(request.param)
    model.save_pretrained(tmp_path)
    config = KINDS[request.param][2](**OURS, max_positions=20)
    tower = config.build().eval()
    load_tower(tower, config, tmp_path)
    return model, tower, captions(config.pad)


def test_states_vectors_and_gradients(pair):
    model, tower, (tokens, last, mask) = pair
    theirs = model(tokens, attention_mask=mask.long()).last_hidden_state
    tower.keeps_states = True
    given = tower(tokens, last)
    torch.testing.assert_close(given.states[mask], theirs[mask], rtol=0, atol=1e-5)
    tower.keeps_states = False
    vector, weights = tower(tokens, last).vector, torch.randn(32)
    torch.testing.assert_close(vector, theirs[:, 0], rtol=0, atol=1e-5)
    (vector @ weights).tanh().sum().backward()
    (theirs[:, 0] @ weights).tanh().sum().backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    for name, parameter in tower.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-4, msg=name)


def test_mean_pooling_is_sentence_transformers(pair):
    model, tower, (tokens, last, mask) = pair
    object.__setattr__(tower.config, "pooling", "mean")
    states = model(tokens, attention_mask=mask.long()).last_hidden_state
    expected = (states * mask.unsqueeze(-1).float()).sum(1) / mask.sum(1, keepdim=True)
    torch.testing.assert_close(tower(tokens, last).vector, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_dropped_token_types_are_a_model_without_them(tmp_path):
    model = random_model("bert")
    model.save_pretrained(tmp_path)
    config = BertConfig(**OURS, max_positions=20, token_types="drop")
    tower = config.build().eval()
    load_tower(tower, config, tmp_path)
    tokens, last, mask = captions(0)
    assert not torch.allclose(tower(tokens, last).vector, model(tokens, mask.long()).last_hidden_state[:, 0], atol=0.1)
    model.embeddings.token_type_embeddings.weight.zero_()
    expected = model(tokens, attention_mask=mask.long()).last_hidden_state[:, 0]
    torch.testing.assert_close(tower(tokens, last).vector, expected, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind, head", [
    ("bert", "BertForMaskedLM"), ("bert", "BertForPreTraining"), ("xlmr", "XLMRobertaForMaskedLM"),
])  # fmt: skip
def test_models_with_heads_give_their_encoder(kind, head, tmp_path):
    model = random_model(kind, getattr(transformers, head))
    model.save_pretrained(tmp_path)
    config = KINDS[kind][2](**OURS, max_positions=20)
    tower = config.build().eval()
    load_tower(tower, config, tmp_path)
    tokens, last, mask = captions(config.pad)
    expected = model(tokens, attention_mask=mask.long(), output_hidden_states=True).hidden_states[-1][:, 0]
    torch.testing.assert_close(tower(tokens, last).vector, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_bert_over_xlmr_s_pieces(tmp_path):
    """As multilingual-e5-small is: positions from 0, and rows of words that no piece has."""
    model = random_model("bert")
    model.save_pretrained(tmp_path)
    config = XlmrTowerConfig(**{**OURS, "vocab_size": 57}, max_positions=20, norm_eps=1e-12)
    tower = config.build().eval()
    load_tower(tower, config, tmp_path)
    tokens, last, mask = captions(1)
    tokens = tokens.clamp(max=56)
    expected = model(tokens, attention_mask=mask.long()).last_hidden_state[:, 0]
    torch.testing.assert_close(tower(tokens, last).vector, expected, rtol=0, atol=1e-5)


TEXTS = [
    "A man is playing in the park.",
    "Two  boys\tand\n3 girls, 1234 times (50%) — at 7:30!",
    "café naïve jalapeño über straße œuvre ÉLÈVE İstanbul'da IŞIK",
    "emoji 😀🏖️ and symbols ©®™ ½ ² Ⅷ",
    "一个男人在公园里玩耍。名",
    "子供たちが公園で遊んでいる",
    "두 소년이 공을 찬다",
    "كلب يجري على الشاطئ",
    "रंगीन पतंग उड़ाता बच्चा",
    "кот сидит на столе, ёж",
    "zero\u200bwidth \ufeff and\u00a0 control\x07 \x00 \ufffd chars",
    "supercalifragilistic" * 6,
    "",
    "   ",
]


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("accents", [None, True, False])
def test_ids_of_wordpiece(lowercase, accents, tmp_path):
    """With a vocabulary of all letters, most of them also within words, and some pieces of the texts."""
    letters = sorted({letter for text in TEXTS for form in (text, text.lower()) for letter in letters_of(form)})
    words = ["man", "park", "##ing", "play", "##l", "cal", "über", "uber", "кот", "##т", "кат"]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = list(
        dict.fromkeys([*special, *letters, *(f"##{letter}" for letter in letters if letter not in "qzш"), *words])
    )
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    settings = {"do_lower_case": lowercase, "strip_accents": accents}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = transformers.BertTokenizerFast(vocab=str(tmp_path / "vocab.txt"), **settings)
    ours = load_tokenizer(tmp_path)
    expected = [theirs(text)["input_ids"] for text in TEXTS]
    assert ours.tokenize(TEXTS, 512) == expected
    assert sum(len(ids) for ids in expected) > 250 and len({i for ids in expected for i in ids}) > 100
    theirs.save_pretrained(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved").tokenize(TEXTS, 512) == expected


def letters_of(text):
    """All characters that a token can hold, with and without accents."""
    both = [*text, *unicodedata.normalize("NFD", text)]
    return {letter for letter in both if letter.isprintable() and not letter.isspace()}
