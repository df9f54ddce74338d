"""Model ``dual_encoder``: what its checkpoints leave out and say, how they are read again, what it starts from."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mlvl_fairseq.checkpoints.archive import save_checkpoint
from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file
from mlvl_fairseq.cli.export import main as export
from mlvl_fairseq.data.text import ClipTokenizer, Vocabulary, clip_vocabulary
from mlvl_fairseq.data.text.wordpiece import WordPieces, WordPieceTokenizer
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.models.dual_encoder import DualEncoderConfig, DualEncoderModel
from mlvl_fairseq.modules.expandable_embedding import GrowthOptions
from mlvl_fairseq.modules.low_rank import LoraLinear
from mlvl_fairseq.modules.towers.bert import BertConfig
from mlvl_fairseq.modules.towers.vit import ViTConfig

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "ball", "##s", "blue"]
DIMENSIONS = {
    **{"image_tower": "vit_tiny", "image_size": 16, "image_patch_size": 8, "image_width": 12, "image_layers": 2},
    **{"text_tower": "bert_tiny", "text_width": 16, "text_max_positions": 9, "embed_dim": 8},
}
TOKENIZER = WordPieceTokenizer(WordPieces(TOKENS, lowercase=True, strip_accents=True))
CAPTIONS = ["a red ball", "blue", "red balls a a a a a a a a a"]


@pytest.fixture(scope="module")
def task():
    return SimpleNamespace(
        source_dictionary=TOKENIZER.dictionary, tokenizer=TOKENIZER, image_feature_dim=7, trains_image_tower=True,
        max_positions=lambda: 9, seed_for=lambda purpose: purpose, default_freeze="", growth=GrowthOptions(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def build(task):
    def build(seed=0, **options):
        cfg = DualEncoderConfig(**{**DIMENSIONS, **options})
        torch.manual_seed(seed)
        model = DualEncoderModel.build_model(cfg, task)
        model.cfg = cfg
        return model

    return build


@pytest.fixture(scope="module")
def save(tmp_path_factory):
    """``save(model)``: path of a file as fairseq's trainer writes it."""
    folder, numbers = tmp_path_factory.mktemp("saved"), iter(range(99))

    def save(model, tokenizer=TOKENIZER, **changes):
        path = folder / f"{next(numbers)}.pt"
        cfg = {name: str(v) if hasattr(v, "value") else v for name, v in vars(model.cfg).items()}
        content = {
            "cfg": {"model": {**cfg, "_name": "dual_encoder"}, "task": {"max_length": 8}},
            "model": {**model.state_dict(), **changes},
            "task_state": tokenizer.checkpoint_state(),
        }
        save_checkpoint(content, path)
        return path

    return save


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Files of a DeiT and of a BERT of these dimensions: options."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(5)
    deit, bert = ViTConfig(16, 8, 12, 2, 3).build(), BertConfig(len(TOKENS), 16, 2, 2, max_positions=9).build()
    torch.save({"model": {**deit.state_dict(), "head.weight": torch.zeros(1)}}, folder / "deit.pth")
    (folder / "bert").mkdir()
    torch.save(bert.state_dict(), folder / "bert" / "pytorch_model.bin")
    sizes = {"vocab_size": len(TOKENS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = {**sizes, "intermediate_size": 64, "max_position_embeddings": 9, "model_type": "bert"}
    (folder / "bert" / "config.json").write_text(json.dumps(config))
    return {"image_weights": str(folder / "deit.pth"), "text_weights": str(folder / "bert")}


def assert_equal_encoders(encoder, model):
    """Of pictures and captions."""
    model.eval()
    pictures = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected = model.encode_image(pictures).vector
        torch.testing.assert_close(torch.from_numpy(encoder.encode_images(pictures)), expected, rtol=1e-5, atol=1e-6)
        for caption in CAPTIONS:
            tokens = torch.tensor(TOKENIZER.tokenize([caption], 8))
            expected = model.encode_text(tokens, torch.tensor([tokens.shape[1] - 1])).vector
            found = torch.from_numpy(encoder.encode_texts([caption]))
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("preset", ["full", "lit", "lwa+ln", "da+ln", "lora", "lwa_text+lora_image", "bitfit"])
def test_a_checkpoint_says_itself_what_it_is(build, save, weights, preset):
    model = build(preset=preset, adapter_reduction=3, lora_rank=2, **weights)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    path = save(model)
    encoder = Encoder.load(path)
    assert (encoder.max_length, str(encoder.preprocess)) == (8, "imagenet_square@16")
    assert encoder.tokenizer.fingerprint == TOKENIZER.fingerprint
    assert not any(isinstance(module, LoraLinear) for module in encoder.network.modules())
    assert_equal_encoders(encoder, model)


def test_towers_that_stay_random_are_told(build, weights, caplog):
    tower = "weights of the {0} tower are random and stay so: it has no --{0}-weights"
    with caplog.at_level("WARNING"):
        build(preset="ln", image_weights=weights["image_weights"])
        assert tower.format("text") in caplog.text and tower.format("image") not in caplog.text
        caplog.clear()
        build(preset="lit", image_weights=weights["image_weights"])
        build(preset="full")
        build(preset="lora", **weights)
    assert "random" not in caplog.text


def test_a_folder_of_another_wordpiece_is_refused(build, save, tmp_path):
    path = save(build(preset="full"))
    for tokens in (TOKENS, TOKENS[:-1]):
        (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens))
        if tokens == TOKENS:
            Encoder.load(path, tokenizer_folder=str(tmp_path))
    with pytest.raises(UserError, match="holds another tokenizer than .*its own is in it"):
        Encoder.load(path, tokenizer_folder=str(tmp_path))


def test_frozen_weights_of_files_stay_out(build, save, weights):
    model = build(preset="lwa+ln", **weights)
    saved = model.state_dict()
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen and not frozen & saved.keys()
    assert {"image_fingerprint", "text_fingerprint"} <= saved.keys()
    other = build(seed=3, preset="lwa+ln", **weights)
    other.load_state_dict(dict(saved), strict=True)
    for name, tensor in nn.Module.state_dict(model).items():
        assert torch.equal(tensor, nn.Module.state_dict(other)[name]), name
    with pytest.raises(UserError, match="say with --image-weights, --text-weights or --init-from where they are"):
        build(preset="lwa+ln").load_state_dict(dict(saved))
    path = save(model)
    with pytest.raises(UserError, match="nowhere.pth is not there: say where they are with --image-weights"):
        Encoder.load(path, image_weights="nowhere.pth")


def test_fresh_frozen_parts_are_saved(build, weights):
    """An appended block that nobody trains is in no file."""
    saved = build(preset="append", **weights).state_dict()
    assert any(name.startswith("visual_encoder.blocks.2.") for name in saved)
    assert not any(name.startswith("visual_encoder.blocks.1.") for name in saved)


def test_other_frozen_weights_are_refused(build, save, weights, tmp_path):
    path = save(build(preset="lit", **weights))
    torch.save({"model": ViTConfig(16, 8, 12, 2, 3).build().state_dict()}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="other.pth does not hold the frozen weights that .* was trained with"):
        Encoder.load(path, image_weights=str(tmp_path / "other.pth"))


def test_a_model_starts_from_a_checkpoint_and_may_add(build, save, weights):
    first = build(preset="lit", **weights)
    nn.init.normal_(first.text_proj.weight)
    path = save(first)
    model = build(seed=9, preset="lwa", init_from=str(path))
    assert model.state_dict().keys() & {"frozen_fingerprint"}
    own, given = nn.Module.state_dict(model), nn.Module.state_dict(first)
    assert all(torch.equal(own[name], tensor) for name, tensor in given.items() if not name.endswith("_fingerprint"))
    again = Encoder.load(save(model))  # three files behind each other
    assert_equal_encoders(again, model)


@pytest.mark.parametrize("options, message", [
    ({"preset": "full"}, "has text_encoder.encoder.layer.0.attention.output.adapter.down_sampler.bias, which this "),
    ({"preset": "lwa", "image_weights": "x"}, "--init-from holds both towers: leave --image-weights"),
    ({"preset": "lwa", "temperature": "log_scale"}, "has temp, which this model lacks"),
    ({"preset": "lwa", "embed_dim": 4}, r"of shape \[8.*this model \[4"),
])  # fmt: skip
def test_a_checkpoint_that_does_not_fit(build, save, options, message):
    path = save(build(preset="lwa"))
    with pytest.raises(UserError, match=message):
        build(init_from=str(path), **options)


@pytest.mark.parametrize("name, tensor, message", [
    ("visual_encoder.blocks.0.adapter1.up_sampler.bias", torch.zeros(12), "unknown tensor"),
    ("text_proj.bias", torch.zeros(3), r"tensor has shape \[3\], expected \[8\]"),
    ("text_proj.weight", torch.zeros(3), r"tensor has shape \[3\]"),
])  # fmt: skip
def test_leftovers_and_wrong_tensors_are_errors(build, save, name, tensor, message):
    """Adapters that the options do not say would be left out without a word by the published code."""
    path = save(build(), **{name: tensor})
    with pytest.raises(DataError, match=message) as error:
        Encoder.load(path)
    assert name in str(error.value)


def test_options_in_a_file_are_checked(build, save):
    model = build()
    model.cfg.image_width = "wide"
    with pytest.raises(DataError, match="cfg.model.image_width"):
        Encoder.load(save(model))
    model.cfg.image_width = 12


def test_a_head_on_given_features(build, save):
    options = {"image_tower": "features", "image_size": None, "image_patch_size": None, "image_width": None}
    model = build(**options, image_layers=None, preset="ln")
    assert model.cfg.image_feature_dim == 7
    encoder = Encoder.load(save(model))
    features = torch.randn(2, 7)
    found = torch.from_numpy(encoder.encode_features(features.numpy()))
    torch.testing.assert_close(found, model.encode_features(features).vector)


@pytest.mark.parametrize("options, place, message", [
    ({"text_tower": "xlmr_base", "text_heads": 2}, {}, "takes ids of a sentencepiece tokenizer, not wordpiece's"),
    ({}, {"max_positions": lambda: 77}, "--max-length 77 is more than the text tower's 9 tokens"),
])  # fmt: skip
def test_a_text_tower_that_does_not_fit_the_task(task, options, place, message):
    other = SimpleNamespace(**{**vars(task), **place})
    with pytest.raises(UserError, match=message):
        DualEncoderModel.build_model(DualEncoderConfig(**{**DIMENSIONS, **options}), other)


def test_rules_can_follow_a_preset(build):
    model = build(preset="lwa", trainable="preset +^visual_encoder.pos_embed -temp")
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert "visual_encoder.pos_embed" in trained and "temp" not in trained
    assert "visual_encoder.blocks.0.adapter1.up_sampler.bias" in trained


def test_export_needs_no_other_file(build, save, weights, tmp_path):
    model = build(preset="lora+ln_text", lora_rank=2, **weights)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    export(["checkpoint", str(save(model)), str(tmp_path / "out")])
    one = tmp_path / "out" / "checkpoint.pt"
    state = load_checkpoint_file(one)
    plain = build(preset="full")
    assert state["model"].keys() == plain.state_dict().keys()
    assert state["cfg"]["model"]["text_weights"] is None
    assert_equal_encoders(Encoder.load(one), model)
    goes_on = build(preset="lora", init_from=str(one))
    assert_equal_encoders(Encoder.load(save(goes_on)), model)


CLIP_TEXT = {"text_tower": "clip_text_b32", "text_heads": 2, "text_layers": 1}


@pytest.fixture(scope="module")
def learning_task():
    """As cll_retrieval with two new tokens."""
    vocabulary = clip_vocabulary()
    grown = ClipTokenizer(Vocabulary([*vocabulary.tokens, "qzballx", "qzbally"], vocabulary.merges))
    return SimpleNamespace(
        source_dictionary=range(len(grown)), tokenizer=grown, image_feature_dim=0, trains_image_tower=False,
        max_positions=lambda: 9, seed_for=lambda purpose: purpose, default_freeze="^text",
        growth=GrowthOptions(0.0, 0.02, 1),
    )  # fmt: skip


@pytest.fixture(scope="module")
def clip_text_file(save, learning_task):
    """A checkpoint with a text tower of CLIP, on CLIP's own vocabulary."""
    before = SimpleNamespace(**{
        **vars(learning_task), "source_dictionary": range(len(clip_vocabulary())), "default_freeze": "",
        "tokenizer": ClipTokenizer(clip_vocabulary()),
    })  # fmt: skip
    cfg = DualEncoderConfig(**{**DIMENSIONS, **CLIP_TEXT})
    first = DualEncoderModel.build_model(cfg, before)
    first.cfg = cfg
    return save(first, tokenizer=before.tokenizer)


def test_languages_are_learned_by_a_text_tower_of_clip(save, learning_task, clip_text_file):
    options = {"preset": "lora_text+lwa_text", "init_from": str(clip_text_file)}
    cfg = DualEncoderConfig(**{**DIMENSIONS, **CLIP_TEXT, **options})
    model = DualEncoderModel.build_model(cfg, learning_task)
    model.cfg = cfg
    weight = model.token_embedding.weight.detach()
    before = load_checkpoint_file(clip_text_file)["model"]["text_encoder.token_embedding.weight"]
    assert torch.equal(weight[:-2], before)
    assert 0 < float(weight[-2:].abs().mean()) < 0.05
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    own = {name for name in trained if ".lora." in name or "adapter" in name}
    assert own and trained - own == {"text_encoder.token_embedding.weight"}
    assert not any(name.startswith("vis") for name in model.state_dict())
    encoder = Encoder.load(save(model, tokenizer=learning_task.tokenizer))
    tokens = torch.tensor(learning_task.tokenizer.tokenize(["a ball"], 8))
    expected = model.eval().encode_text(tokens, torch.tensor([tokens.shape[1] - 1])).vector
    torch.testing.assert_close(torch.from_numpy(encoder.encode_texts(["a ball"])), expected, rtol=1e-5, atol=1e-6)


def test_a_frozen_embedding_that_grew_is_saved(save, learning_task, clip_text_file):
    task = SimpleNamespace(**{**vars(learning_task), "default_freeze": ""})
    cfg = DualEncoderConfig(**{**DIMENSIONS, **CLIP_TEXT, "preset": "proj", "init_from": str(clip_text_file)})
    model = DualEncoderModel.build_model(cfg, task)
    saved = {name for name in model.state_dict() if name.startswith("text_encoder.")}
    assert saved == {"text_encoder.token_embedding.weight"}


def test_languages_cannot_be_learned_by_a_bert(learning_task):
    with pytest.raises(UserError, match="bert_tiny does not fit .* of a wordpiece tokenizer: continue a"):
        DualEncoderModel.build_model(DualEncoderConfig(**DIMENSIONS), learning_task)
