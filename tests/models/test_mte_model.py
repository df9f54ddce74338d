import hashlib
import math

import pytest
import torch
import torch.nn.functional as F
from fairseq.sequence_generator import SequenceGenerator
from host_syncs import Watch
from mte_models import LANGUAGES, PAIRS, new_batch, new_dictionary, new_model, write_random_xlmr

from mlvl_fairseq.checkpoints.formats.xlmr import read_xlmr
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.losses.translation import smoothed_cross_entropy
from mlvl_fairseq.models.mte import MteConfig
from mlvl_fairseq.modules.towers.xlmr import XlmrConfig, XlmrEncoder
from mlvl_fairseq.modules.translation import MteDecoder, MteEncoder
from mlvl_fairseq.networks.mte import ARCHITECTURES

LAYERS = {"train_encoder": "layers"}
EMBEDDINGS = ("encoder.xlmr.embed_tokens.", "encoder.xlmr.embed_positions.", "encoder.xlmr.layernorm_embedding.")


@pytest.fixture(scope="module")
def xlmr(tmp_path_factory):
    path = tmp_path_factory.mktemp("xlmr") / "model.pt"
    write_random_xlmr(path)
    return path


def trained(model):
    return {name for name, value in model.named_parameters() if value.requires_grad}


def count(module, *prefixes):
    return sum(value.numel() for name, value in module.named_parameters() if not prefixes or name.startswith(prefixes))


# Sizes.


def test_size_of_mte_base():
    """The published sizes: 12 decoder layers and a norm, 113.4M; maps for 7 languages and for none."""
    cfg = MteConfig()
    embedding = torch.nn.Embedding(5, cfg.encoder_embed_dim, 1)
    decoder = MteDecoder(embedding, 1, cfg.decoder_ffn_embed_dim, cfg.decoder_attention_heads)
    assert {name.split(".")[0] for name, _ in decoder.named_parameters()} == {"embed_tokens", "layers", "layer_norm"}
    assert cfg.decoder_layers * count(decoder, "layers.") + count(decoder, "layer_norm.") == 113_422_848
    assert decoder.output_projection.weight is decoder.embed_tokens.weight is embedding.weight
    assert decoder.embed_scale == math.sqrt(768)
    encoder = MteEncoder(XlmrEncoder(XlmrConfig(5, 1, cfg.encoder_embed_dim, 8, 1)), languages=7)
    assert count(encoder.projection) == 8 * 590_592


def test_architectures_are_dimensions():
    fields = MteConfig.__dataclass_fields__
    for name, dimensions in ARCHITECTURES.items():
        assert set(dimensions) <= set(fields), name


# Numbers.


def test_decoder_is_the_plain_formula():
    """One pre-norm layer, written out: tied embeddings, sinusoidal positions, the target language's map."""
    torch.manual_seed(1)
    model = new_model(decoder_layers=1).eval()
    torch.nn.init.normal_(model.encoder.projection.bias)
    batch = new_batch(PAIRS)["net_input"]
    logits, _ = model(**batch)
    row, states = 1, model.encoder.xlmr(batch["src_tokens"])
    source = batch["src_tokens"][row]
    memory = states[row, source.ne(1)] @ model.encoder.projection.weight[2].t() + model.encoder.projection.bias[2]
    embedding, layer = model.encoder.xlmr.embed_tokens.weight, model.decoder.layers[0]
    tokens = batch["prev_output_tokens"][row]
    x = 4.0 * embedding[tokens] + sinusoids(len(tokens), 16)
    mask = torch.full((len(tokens), len(tokens)), -math.inf).triu(1)
    x = x + attend(layer.self_attn, layer.self_attn_layer_norm(x), None, mask)
    x = x + attend(layer.encoder_attn, layer.encoder_attn_layer_norm(x), memory, None)
    inner = layer.fc1(layer.final_layer_norm(x))
    x = x + layer.fc2(0.5 * inner * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3))))
    torch.testing.assert_close(logits[row], model.decoder.layer_norm(x) @ embedding.t(), rtol=1e-4, atol=1e-5)


def test_activation_of_the_decoder_is_the_published_one():
    """The tanh form of GELU, in all layers; the exact one is up to 5e-4 away."""
    x = torch.linspace(-6, 6, 1001, dtype=torch.double)
    expected = 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    for layer in new_model().decoder.layers:
        torch.testing.assert_close(layer.activation_fn(x), expected, rtol=1e-12, atol=1e-12)


def sinusoids(length, width):
    """Positions count from 2, after the padding's."""
    frequencies = torch.exp(torch.arange(width // 2) * -(math.log(10000) / (width // 2 - 1)))
    angles = torch.arange(2, 2 + length)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def attend(attention, queries, memory, mask):
    keys = queries if memory is None else memory
    heads = attention.num_heads
    split = lambda x: x.unflatten(-1, (heads, -1)).transpose(0, 1)  # noqa: E731
    q, k, v = split(attention.q_proj(queries)), split(attention.k_proj(keys)), split(attention.v_proj(keys))
    weights = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
    weights = (weights if mask is None else weights + mask).softmax(-1)
    return attention.out_proj((weights @ v).transpose(0, 1).flatten(1))


def test_only_the_projection_knows_the_language():
    model = new_model().eval()
    logits = [model(**new_batch(PAIRS, target_lang=lang)["net_input"])[0] for lang in (1, 2)]
    assert not torch.allclose(*logits)
    with torch.no_grad():
        model.encoder.projection.weight[1] = model.encoder.projection.weight[2]
    assert torch.equal(*(model(**new_batch(PAIRS, target_lang=lang)["net_input"])[0] for lang in (1, 2)))


def test_side_of_the_padding_does_not_matter():
    model = new_model().eval()
    outputs = [rows_of(model, new_batch(PAIRS, left=left)) for left in (False, True)]
    for name in ("smoothed", "source", "target"):
        torch.testing.assert_close(outputs[0][name], outputs[1][name])


def token_losses(logits, target):
    return {"smoothed": smoothed_cross_entropy(logits, target, 0.1, "others")[0]}


def rows_of(model, batch, sentences="encoder"):
    return model(**batch["net_input"], target=batch["target"], token_losses=token_losses, sentences=sentences)


def test_sentence_vectors_are_means_over_all_but_padding():
    model = new_model().eval()
    for kind in ("encoder", "projected"):
        rows = rows_of(model, new_batch(PAIRS), kind)
        for row, (source, target) in enumerate(PAIRS):
            states = model.encoder.xlmr(torch.tensor([[0, *source, 2]]))
            states = model.encoder.projection(states, 2) if kind == "projected" else states
            torch.testing.assert_close(rows["source"][row], states[0].mean(0))
            vector = model.encoder.xlmr(torch.tensor([[0, *target, 2]]))[0].mean(0)
            torch.testing.assert_close(rows["target"][row], vector)


def test_targets_as_long_as_the_encoder_reads():
    model = new_model().eval()
    tokens = torch.tensor([[5] * 19 + [2], [5] * 18 + [2, 1]])  # the first one with <s> one token too many
    with Watch().watching() as watch:
        vectors = model.sentence_vectors(tokens, (tokens != 1).numpy())
    assert not watch.found
    expected = torch.tensor([[0] + [5] * 19, [0] + [5] * 18 + [2]])
    torch.testing.assert_close(vectors, model.encoder.xlmr(expected).mean(1))


@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_chunks_have_the_gradients_of_the_batch(chunk):
    gradients = []
    for size in (0, chunk):
        torch.manual_seed(0)
        model = new_model(train_encoder="layers", encode_chunk=size).eval()
        rows = rows_of(model, new_batch(PAIRS))
        similarities = F.normalize(rows["source"]) @ F.normalize(rows["target"]).t()
        (rows["smoothed"].sum() + F.cross_entropy(10 * similarities, torch.arange(5))).backward()
        gradients.append({name: value.grad for name, value in model.named_parameters() if value.requires_grad})
    for name, whole in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], whole, rtol=1e-5, atol=1e-6, msg=name)


def test_beam_search_scores_are_those_of_the_model():
    """fairseq's generator, incremental and with beams reordered, against one pass over what it found."""
    torch.manual_seed(2)
    model = new_model().eval()
    batch = new_batch(PAIRS)
    generator = SequenceGenerator([model], new_dictionary(), beam_size=3, max_len_b=6)
    for row, hypotheses in enumerate(generator.generate([model], batch)):
        tokens = hypotheses[0]["tokens"]
        source = batch["net_input"]["src_tokens"][row]
        logits, _ = model(source[source.ne(1)][None], None, tokens.roll(1)[None], 2)
        expected = logits[0].log_softmax(-1)[torch.arange(len(tokens)), tokens]
        torch.testing.assert_close(hypotheses[0]["positional_scores"], expected, rtol=1e-4, atol=1e-4)


# What is frozen.


def test_what_trains(xlmr):
    every = {name for name, _ in new_model().named_parameters()}
    encoder = {name for name in every if name.startswith("encoder.xlmr.")}
    assert trained(new_model(xlmr=xlmr)) == every - encoder
    layers = trained(new_model(xlmr=xlmr, train_encoder="layers"))
    assert every - layers == {name for name in encoder if name.startswith(EMBEDDINGS)}
    assert trained(new_model(train_encoder="all")) == every


@pytest.mark.parametrize("option, dropout", [({}, False), ({"frozen_dropout": True}, True), (LAYERS, True)])
def test_frozen_encoders_run_without_dropout(xlmr, option, dropout):
    model = new_model(xlmr=xlmr, dropout=0.5, **option).train()
    tokens = new_batch(PAIRS)["net_input"]["src_tokens"]
    assert torch.equal(model.encoder.xlmr(tokens), model.encoder.xlmr(tokens)) is not dropout
    assert model.decoder.training and not model.eval().encoder.xlmr.training


# What is saved, and loaded.


def test_checkpoints_hold_what_was_trained(xlmr):
    for kind in ("none", "layers"):
        model = new_model(xlmr=xlmr, train_encoder=kind)
        saved = model.state_dict()
        buffers = {name for name, _ in model.named_buffers()}
        assert set(saved) - buffers == trained(model) and "frozen_fingerprint" in saved
        other = new_model(xlmr=xlmr, train_encoder=kind)
        other.load_state_dict(saved)
        for name, tensor in torch.nn.Module.state_dict(model).items():
            assert torch.equal(tensor, torch.nn.Module.state_dict(other)[name]), name


def test_encoders_from_scratch_are_saved_whole():
    model = new_model()
    assert set(model.state_dict()) == set(torch.nn.Module.state_dict(model))


def test_other_frozen_weights_are_refused(xlmr, tmp_path):
    saved = new_model(xlmr=xlmr).state_dict()
    write_random_xlmr(tmp_path / "other.pt", seed=5)
    with pytest.raises(UserError, match="trained on other frozen weights than --xlmr holds, or with another --tr"):
        new_model(xlmr=tmp_path / "other.pt").load_state_dict(dict(saved))
    with pytest.raises(UserError, match="with another --train-encoder"):
        new_model(xlmr=xlmr, train_encoder="layers").load_state_dict(dict(saved))
    with pytest.raises(UserError, match="say with --xlmr where they are"):
        new_model().load_state_dict(dict(saved))


def save(model, path, languages=LANGUAGES, xlmr=None, **state):
    options = {"xlmr": None if xlmr is None else str(xlmr), "encoder_attention_heads": 2, "dropout": 0.1}
    content = {"model": model.state_dict(), "cfg": {"model": options}, "task_state": {"languages": languages, **state}}
    torch.save(content, path)
    return path


def test_stage_2_starts_with_all_of_stage_1(xlmr, tmp_path):
    torch.manual_seed(7)
    first = new_model(xlmr=xlmr)
    path = save(first, tmp_path / "stage1.pt")
    second = new_model(xlmr=xlmr, train_encoder="layers", init_from=path)
    for name, tensor in torch.nn.Module.state_dict(first).items():
        if name != "frozen_fingerprint":
            assert torch.equal(tensor, torch.nn.Module.state_dict(second)[name]), name
    assert trained(second) > trained(first)


def test_stage_1_from_scratch_starts_stage_2(tmp_path):
    first = new_model(train_encoder="all")
    path = save(first, tmp_path / "stage1.pt")
    second = new_model(train_encoder="layers", init_from=path)
    assert torch.equal(second.encoder.xlmr.embed_tokens.weight, first.encoder.xlmr.embed_tokens.weight)
    assert not second.frozen_names


def test_encoder_of_a_checkpoint(xlmr, tmp_path):
    model = new_model(xlmr=xlmr, train_encoder="layers")
    torch.nn.init.normal_(model.encoder.xlmr.layers[0].fc1.weight)
    path = save(model, tmp_path / "stage2.pt", xlmr=xlmr)
    for read in (read_xlmr(path), read_xlmr(path, xlmr)):
        encoder = read.encoder()
        for name, tensor in model.encoder.xlmr.state_dict().items():
            assert torch.equal(tensor, encoder.state_dict()[name]), name
    with pytest.raises(UserError, match="gone.pt is not there: say with --xlmr"):
        read_xlmr(path, tmp_path / "gone.pt")
    write_random_xlmr(tmp_path / "other.pt", seed=5)
    with pytest.raises(UserError, match="other.pt does not hold the frozen weights"):
        read_xlmr(path, tmp_path / "other.pt")


def test_another_dictionary_of_the_same_size_is_refused(tmp_path, caplog):
    """As MtePretrainingTask puts it into checkpoints; those of earlier versions do not say it."""
    own, other = new_dictionary(), new_dictionary()
    other.symbols[5], other.symbols[6] = other.symbols[6], other.symbols[5]
    symbols = ["<s>", "<pad>", "</s>", "<unk>", *(f"w{number}" for number in range(25)), "<mask>"]
    digest = hashlib.sha256("\n".join(symbols).encode()).hexdigest()
    first = new_model(train_encoder="all")
    path = save(first, tmp_path / "stage1.pt", dictionary=digest)
    new_model(train_encoder="all", init_from=path, dictionary=own)
    assert "dict.txt" not in caplog.text
    with pytest.raises(
        UserError, match=f"^--init-from {path} was trained with another dictionary .* the same --srcdict"
    ):
        new_model(train_encoder="all", init_from=path, dictionary=other)
    new_model(train_encoder="all", init_from=save(first, tmp_path / "earlier.pt"), dictionary=own)
    assert "does not say which dict.txt it was trained with" in caplog.text


def test_what_does_not_fit_is_refused(xlmr, tmp_path):
    path = save(new_model(xlmr=xlmr), tmp_path / "stage1.pt")
    with pytest.raises(UserError, match="left out other frozen weights than --xlmr has"):
        new_model(init_from=path)
    with pytest.raises(UserError, match="trained with languages de,en,fr, not de,en: give --langs de,en,fr"):
        new_model(["de", "en"], xlmr=xlmr, init_from=path)
    with pytest.raises(UserError, match="has decoder.layers.1.* which this model has not: give the --arch"):
        new_model(xlmr=xlmr, init_from=path, decoder_layers=1)
    with pytest.raises(UserError, match="of shape .*: give the --arch"):
        new_model(xlmr=xlmr, init_from=path, decoder_ffn_embed_dim=8)
    with pytest.raises(UserError, match="lacks decoder.layers.2.* give the --arch it was trained with"):
        new_model(xlmr=xlmr, init_from=path, decoder_layers=3)
    write_random_xlmr(tmp_path / "other.pt", seed=5)
    with pytest.raises(UserError, match="left out other frozen weights than --xlmr has"):
        new_model(xlmr=tmp_path / "other.pt", init_from=path)
    with pytest.raises(DataError, match="is no checkpoint of task mte_pretraining"):
        new_model(xlmr=xlmr, init_from=xlmr)
    scratch = save(new_model(train_encoder="all"), tmp_path / "scratch.pt")
    with pytest.raises(
        UserError, match="has trained encoder.xlmr.embed_.*frozen now: take the encoder from there: --xlmr"
    ):
        new_model(xlmr=xlmr, train_encoder="layers", init_from=scratch)


def test_encoder_must_be_said_and_fit(xlmr, tmp_path):
    with pytest.raises(UserError, match="say with --xlmr which XLM-R the encoder starts from, or else --encoder-from"):
        new_model(encoder_from_scratch=False)
    with pytest.raises(UserError, match="or else --encoder-from-scratch"):
        new_model(xlmr=xlmr, encoder_from_scratch=True)
    with pytest.raises(UserError, match="gone is not there"):
        new_model(xlmr=tmp_path / "gone")
    with pytest.raises(UserError, match="width is 16, not 32: choose another --arch"):
        new_model(xlmr=xlmr, encoder_embed_dim=32)
    with pytest.raises(UserError, match="another dictionary, of 30 entries, than the data's, of 31"):
        new_model(xlmr=xlmr, dictionary=new_dictionary(26))
    with pytest.raises(UserError, match="--encode-chunk -1"):
        new_model(encode_chunk=-1)


def test_dictionary_beside_the_encoder_counts(xlmr, tmp_path):
    write_random_xlmr(tmp_path / "model.pt")
    new_dictionary().save(str(tmp_path / "dict.txt"))
    assert new_model(xlmr=tmp_path).max_positions() == (100, 20)
    other = new_dictionary()
    other.symbols[5:7] = other.symbols[5:7][::-1]
    with pytest.raises(UserError, match="another dictionary"):
        new_model(xlmr=tmp_path, dictionary=other)
