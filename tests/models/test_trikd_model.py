"""TriKD's model: what trains, what stays as it is, and which vectors captions get."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_mte import write_small_mte

from mlvl_fairseq.checkpoints.check import without_values
from mlvl_fairseq.checkpoints.formats.xlmr import read_xlmr, write_xlmr
from mlvl_fairseq.data.text.sentencepiece import SentencePieceTokenizer, train_sentencepiece
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.models.trikd import TrikdConfig, TrikdModel
from mlvl_fairseq.modules.towers.xlmr import PAD, XlmrConfig, XlmrEncoder
from mlvl_fairseq.modules.x_projector import CProjector, XProjector

WIDTH, VOCABULARY = 16, 20
TOKENS = torch.tensor([[0, 5, 6, 7, 2], [0, 8, 2, PAD, PAD], [0, 9, 10, 2, PAD]])
ENDS = torch.tensor([4, 2, 3])


@pytest.fixture(scope="session")
def mte_file(tmp_path_factory):
    return str(write_small_mte(tmp_path_factory.mktemp("mte") / "mte.pt", VOCABULARY, WIDTH, layers=2))


@pytest.fixture
def build(mte_file):
    def build_model(cached_states=False, clip_dim=8, teacher="ab" * 32, tokenizer=None, **options):
        task = SimpleNamespace(
            source_dictionary=range(VOCABULARY), cached_states=cached_states, image_feature_dim=clip_dim,
            teacher_fingerprint=teacher, max_positions=lambda: 77, tokenizer=tokenizer,
        )  # fmt: skip
        sizes = dict(encoder_embed_dim=WIDTH, encoder_ffn_embed_dim=24, encoder_attention_heads=2)
        torch.manual_seed(3)
        return TrikdModel.build_model(TrikdConfig(**{"mte": mte_file, **sizes, **options}), task)

    return build_model


def test_base_trains_the_published_number_of_parameters():
    """14,568,960 and a temperature; the frozen encoder has 277 million."""
    mte = without_values(XlmrEncoder, XlmrConfig(250_002, 12, 768, 3072, 12))
    model = TrikdModel(XProjector(768, 3072, 12, 2), CProjector(512, 768), mte)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 14_568_960 + 1
    assert sum(p.numel() for p in mte.parameters()) > 270e6


def update(model):
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    features = model(TOKENS, ENDS, images=torch.randn(3, 8), english=torch.randn(3, 8))
    loss = sum(tensor.pow(3).sum() for tensor in features.values()) / model.temperature
    loss.backward()
    optimizer.step()


def test_an_update_changes_the_projectors_only(build, mte_file):
    model = build()
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    update(model)
    changed = {name for name, tensor in model.named_parameters() if not torch.equal(tensor, before[name])}
    trained = {name for name in before if not name.startswith("mte.")}
    key_biases = {name for name in trained if name.endswith("k_proj.bias")}  # the softmax does not see them
    assert changed | key_biases == trained and changed
    assert all(p.grad is None for p in model.mte.parameters())
    for name, tensor in read_xlmr(mte_file).tensors.items():
        assert torch.equal(model.mte.state_dict()[name], tensor)


def test_frozen_parts_stay_in_evaluation_mode(build):
    model = build().train()
    assert model.x_projector.training and not any(module.training for module in model.mte.modules())
    states = [model.mte(TOKENS) for _ in range(2)]
    assert torch.equal(*states)


def test_dropout_of_the_frozen_encoder_as_published(build):
    model = build(frozen_dropout=True).train()
    assert not torch.equal(model.mte(TOKENS), model.mte(TOKENS))
    assert not any(p.requires_grad for p in model.mte.parameters())
    model.eval()
    assert torch.equal(model.mte(TOKENS), model.mte(TOKENS))


def test_padding_on_the_left_gives_the_same_vectors(build):
    model = build().eval()
    left = torch.full((3, 8), PAD)
    for row, tokens, end in zip(left, TOKENS, ENDS):
        row[-end - 1 :] = tokens[: end + 1]
    vectors = model(left, torch.full((3,), 7))["text"]
    torch.testing.assert_close(vectors, model(TOKENS, ENDS)["text"], rtol=0, atol=3e-6)


@pytest.mark.parametrize("chunk", [1, 2])
def test_chunks_have_the_gradients_of_the_whole_batch(build, chunk):
    gradients = []
    for size in (0, chunk):
        model = build(encode_chunk=size, dropout=0.0, attention_dropout=0.0).train()
        model(TOKENS, ENDS)["text"].pow(2).sum().backward()
        gradients.append([p.grad for p in model.x_projector.parameters()])
    for whole, parts in zip(*gradients):
        torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)


def test_given_states_take_the_place_of_the_encoder(build):
    whole, cached = build().eval(), build(cached_states=True).eval()
    assert cached.mte is None
    states = whole.mte(TOKENS)
    assert torch.equal(cached(TOKENS, ENDS, states=states)["text"], whole(TOKENS, ENDS)["text"])
    cached.load_state_dict(whole.state_dict())  # what is saved does not depend on it


def test_temperature_is_bounded(build):
    model = build()
    assert float(model.temperature) == pytest.approx(0.07)
    model.logit_scale.data.fill_(np.log(1e4))
    assert float(model.temperature) == pytest.approx(0.01)


def test_checkpoints_leave_out_what_is_frozen(build):
    model = build()
    names = set(model.state_dict())
    assert not any(name.startswith("mte.") for name in names)
    assert {"mte_fingerprint", "clip_fingerprint", "logit_scale", "c_projector.weight"} < names
    assert names & set(model.frozen_names) == set() and len(model.frozen_names) > 20
    other = build()
    update(model)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval()(TOKENS, ENDS)["text"], model.eval()(TOKENS, ENDS)["text"])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"teacher": "cd" * 32}, "than --clip holds, or other teacher features"),
        ({"mte": "other"}, "than --mte holds"),
    ],
)
def test_other_frozen_weights_are_refused(build, options, message, mte_file, tmp_path):
    if "mte" in options:
        weights = read_xlmr(mte_file)
        weights.tensors["embed_tokens.weight"][3, 0] += 1
        write_xlmr(weights, tmp_path / "other.pt")
        options = {"mte": str(tmp_path / "other.pt")}
    with pytest.raises(UserError, match=message):
        build(**options).load_state_dict(build().state_dict())


def test_features_of_another_network_need_no_clip(build):
    model = build(image_tower="features", teacher=None, clip_dim=5)
    assert "clip_fingerprint" not in model.state_dict()
    assert model(TOKENS, ENDS, images=torch.zeros(3, 5))["image"].shape == (3, WIDTH)


def test_half_precision_is_cast_where_it_has_to_be(build):
    model = build().bfloat16().eval()
    features = model(TOKENS, ENDS, images=torch.randn(3, 8))
    assert {tensor.dtype for tensor in features.values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    "options, expected", [({}, (0.3, 0.1)), ({"dropout": 0.2, "attention_dropout": 0.4}, (0.2, 0.4))]
)
def test_dropout_and_attention_dropout_have_each_their_own_option(build, options, expected):
    for layer in build(**options).x_projector.layers:
        assert (layer.dropout.p, layer.self_attn.dropout) == expected


def test_projectors_of_other_pieces_are_refused(build, tmp_path):
    tokenizers = []
    for name, lines in (("one", "a red ball\nblue balls\n"), ("other", "a hum\nmugs hugs\n")):
        (tmp_path / f"{name}.txt").write_text(lines * 3)
        train_sentencepiece([tmp_path / f"{name}.txt"], tmp_path / name, 13)
        tokenizers.append(SentencePieceTokenizer(tmp_path / name))
    one, other = tokenizers
    content = {
        "cfg": {"model": {"encoder_attention_heads": 2}, "task": {"sentencepiece": str(one.folder)}},
        "model": dict(build().state_dict()),
        "task_state": one.checkpoint_state(),
    }
    torch.save(content, tmp_path / "trikd.pt")
    start = {"init_projectors_from": str(tmp_path / "trikd.pt")}
    build(tokenizer=one, **start)
    with pytest.raises(UserError, match="^--init-projectors-from .*trikd.pt was trained with another tokenizer"):
        build(tokenizer=other, **start)
