"""Checkpoints of model ``cclm``: what they leave out and say, how they are read again, what it starts from."""

import json
import logging
import shutil
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mlvl_fairseq.checkpoints.archive import save_checkpoint
from mlvl_fairseq.checkpoints.source import WeightSource, format_of
from mlvl_fairseq.checkpoints.towers.relative_positions import resize_relative
from mlvl_fairseq.cli.export import main as export
from mlvl_fairseq.data.text.sentencepiece import SentencePieceTokenizer, train_sentencepiece
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.models.cclm import CclmConfig, CclmModel
from mlvl_fairseq.modules.towers.cclm_text import CclmTextConfig
from mlvl_fairseq.modules.towers.swin import SwinConfig

SWIN = {
    "image_tower": "swin_nano", "image_size": 48, "image_width": 4, "image_window": 3, "image_stage_layers": "1,2",
    "image_stage_heads": "1,2",
}  # fmt: skip
TEXT = {
    "text_tower": "cclm_xlmr_nano", "text_width": 16, "text_layers": 1, "text_heads": 2, "text_ffn_width": 24,
    "text_max_positions": 12,
}  # fmt: skip
DIMENSIONS = {**SWIN, **TEXT, "embed_dim": 8, "fusion_layers": 1}
CAPTIONS = ["a red ball", "blue", "red balls a a a a a a a a a"]


def new_tokenizer(folder, text="a red ball\nblue balls\nA blue ball\n"):
    folder.mkdir(exist_ok=True)
    (folder / "text").write_text(text * 3, encoding="utf-8")
    train_sentencepiece([folder / "text"], folder, 14)
    return SentencePieceTokenizer(folder)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return new_tokenizer(tmp_path_factory.mktemp("spm"))


@pytest.fixture(scope="module")
def build(tokenizer):
    def build(seed=0, tokenizer=tokenizer, **options):
        cfg = CclmConfig(**{**DIMENSIONS, **options})
        task = SimpleNamespace(
            source_dictionary=tokenizer.dictionary, tokenizer=tokenizer, stream_features_shape=None,
            max_positions=lambda: 12, seed_for=lambda purpose: purpose,
        )  # fmt: skip
        torch.manual_seed(seed)
        model = CclmModel.build_model(cfg, task)
        model.cfg = cfg
        return model

    return build


@pytest.fixture(scope="module")
def save(tmp_path_factory, tokenizer):
    """``save(model)``: path of a file as fairseq's trainer writes it."""
    folder, numbers = tmp_path_factory.mktemp("saved"), iter(range(99))

    def save(model, **changes):
        path = folder / f"{next(numbers)}.pt"
        cfg = {name: str(v) if hasattr(v, "value") else v for name, v in vars(model.cfg).items()}
        content = {
            "cfg": {
                "model": {**cfg, "_name": "cclm"},
                "task": {"max_length": 8, "tokenizer_folder": str(tokenizer.folder)},
            },
            "model": {**model.state_dict(), **changes},
            "task_state": tokenizer.checkpoint_state(),
        }
        save_checkpoint(content, path)
        return path

    return save


@pytest.fixture(scope="module")
def weights(tmp_path_factory, tokenizer):
    """Files of a Swin and of an XLM-R of four layers: options."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(5)
    swin = SwinConfig(48, 4, 4, (1, 2), (1, 2), 3).build()
    xlmr = CclmTextConfig(len(tokenizer), 16, 4, 2, 24, 12).build()
    torch.save({"model": {**swin.state_dict(), "head.weight": torch.zeros(1)}}, folder / "swin.pth")
    (folder / "xlmr").mkdir()
    torch.save(xlmr.state_dict(), folder / "xlmr" / "pytorch_model.bin")
    said = {"vocab_size": len(tokenizer), "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
    said.update(intermediate_size=24, layer_norm_eps=1e-5, model_type="xlm-roberta")
    (folder / "xlmr" / "config.json").write_text(json.dumps(said))
    return {"image_weights": str(folder / "swin.pth"), "text_weights": str(folder / "xlmr")}


def shake(model):
    """Give all that trains other numbers, as training does."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    return model


def scores(network, tokenizer):
    """Of a picture beside each caption."""
    torch.manual_seed(7)
    picture, found = torch.randn(1, 3, 48, 48), []
    with torch.no_grad():
        image = network.encode_image(picture)
        for caption in CAPTIONS:
            ids = torch.tensor(tokenizer.tokenize([caption], 8))
            text = network.encode_text(ids, torch.tensor([ids.shape[1] - 1]))
            found.append(torch.cat([network.match(image, text), text.vector[0], image.vector[0]]))
    return torch.stack(found)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"preset": "lit"},
        {"preset": "full_image"},
        {"heads": "matching"},
        {"one_projection": True, "image_width": 8},
        {"image_tower": "swin_nano", "image_width": 8, "text_width": 32, "preset": "lora", "lora_rank": 2},
    ],
    ids=str,
)
def test_a_checkpoint_says_itself_what_it_is(build, save, weights, tokenizer, options):
    own = weights if not {"image_width"} & options.keys() else {}
    model = shake(build(**own, **options))
    path = save(model)
    encoder = Encoder.load(path)
    assert (encoder.max_length, str(encoder.preprocess)) == (8, "lilt@48")
    assert encoder.tokenizer.fingerprint == tokenizer.fingerprint
    torch.testing.assert_close(scores(encoder.network, tokenizer), scores(model.eval(), tokenizer))
    assert (encoder.network.lm_head is None) == ("heads" in options)


def test_frozen_weights_stay_in_their_files(build, save, weights, tmp_path):
    path = save(shake(build(preset="lit", **weights)))
    saved = torch.load(path, weights_only=True)["model"]
    assert not any(name.startswith("visual_encoder") and not name.endswith("index") for name in saved)
    moved = tmp_path / "elsewhere.pth"
    moved.write_bytes(open(weights["image_weights"], "rb").read())
    assert Encoder.load(path, image_weights=str(moved)).fingerprint == Encoder.load(path).fingerprint
    torch.save({"model": SwinConfig(48, 4, 4, (1, 2), (1, 2), 3).build().state_dict()}, moved)
    with pytest.raises(UserError, match="does not hold the frozen weights"):
        Encoder.load(path, image_weights=str(moved))


def test_a_frozen_text_tower_is_taken_from_the_layers_that_were_picked(build, save, weights, tokenizer):
    model = shake(build(preset="full", trainable="-^text_encoder", layers_from="2,0", **weights))
    source = torch.load(f"{weights['text_weights']}/pytorch_model.bin", weights_only=True)
    name = "attention.self.query.weight"
    assert torch.equal(model.text_encoder.encoder.layer[0].state_dict()[name], source[f"encoder.layer.2.{name}"])
    path = save(model)
    assert f"text_encoder.encoder.layer.0.{name}" not in torch.load(path, weights_only=True)["model"]
    torch.testing.assert_close(scores(Encoder.load(path).network, tokenizer), scores(model.eval(), tokenizer))


def test_layers_of_the_text_go_into_the_fusion_encoder(build, weights):
    model = build(**weights)
    source = torch.load(f"{weights['text_weights']}/pytorch_model.bin", weights_only=True)
    for module, number in ((model.text_encoder.encoder.layer[0], 1), (model.fusion.layer[0], 3)):
        name = "intermediate.dense.weight"
        assert torch.equal(module.state_dict()[name], source[f"encoder.layer.{number}.{name}"])
    query = model.fusion.layer[0].crossattention.self.query
    assert not query.bias.any() and 0.01 < query.weight.std() < 0.03


def test_it_starts_from_all_of_a_checkpoint(build, save):
    model = shake(build())
    path = save(model)
    other = build(seed=1, init_from=str(path))
    for name, parameter in other.named_parameters():
        assert torch.equal(parameter, dict(model.named_parameters())[name]), name


def test_a_checkpoint_for_pictures_of_another_size(build, save):
    """Its tables of relative positions are resampled; all else is as it was."""
    model = shake(build())
    other = build(seed=1, init_from=str(save(model)), image_size=80, image_window=5)
    table = "visual_encoder.features.1.0.attn.relative_position_bias_table"
    before, after = dict(model.named_parameters()), dict(other.named_parameters())
    assert torch.equal(after[table], resize_relative(before[table], 5, "file", table))
    assert all(torch.equal(after[name], before[name]) for name in after if "relative_position" not in name)
    with torch.no_grad():
        assert other.eval().encode_image(torch.zeros(1, 3, 80, 80)).vector.isfinite().all()


def test_heads_that_a_checkpoint_lacks_or_a_model_does_without(build, save, caplog):
    small, whole = save(shake(build(heads="matching"))), save(shake(build()))
    model = build(init_from=str(small))
    assert model.lm_head is not None and "has no lm_head and no bbox_head: random here" in caplog.text
    with caplog.at_level(logging.INFO):
        assert build(init_from=str(whole), heads="matching").lm_head is None
    assert "its lm_head is left out" in caplog.text and "its bbox_head is left out" in caplog.text


def test_files_for_other_models(build, save, weights, tmp_path):
    path = save(build())
    with pytest.raises(UserError, match="has no fusion.layer.1.attention.output.LayerNorm.bias, which this model has"):
        build(init_from=str(path), fusion_layers=2)
    with pytest.raises(UserError, match="holds both towers: leave --image-weights"):
        build(init_from=str(path), **weights)
    with pytest.raises(UserError, match="has 4 layers for 3: say with --layers-from which"):
        build(text_weights=weights["text_weights"], fusion_layers=2)
    with pytest.raises(UserError, match="holds a model of the family|no CCLM checkpoint"):
        build(init_from=weights["text_weights"])
    with pytest.raises(UserError, match="holds a model of the family 'cclm', not 'dual_encoder'"):
        format_of(WeightSource(path), "dual_encoder")
    (tmp_path / "cut.pt").write_bytes(path.read_bytes()[:-400])
    with pytest.raises(DataError, match="truncated or damaged"):
        build(init_from=str(tmp_path / "cut.pt"))


def test_weights_of_another_tokenizer_of_the_same_size_are_refused(build, save, weights, tokenizer, tmp_path):
    path, other = save(build()), new_tokenizer(tmp_path / "other", "a sad clown\nslow cows\nold towns\n")
    assert len(other) == len(tokenizer)
    with pytest.raises(UserError, match=f"^--init-from {path} was trained with another .* its own, {tokenizer.folder}"):
        build(init_from=str(path), tokenizer=other)
    moved = SentencePieceTokenizer(shutil.copytree(tokenizer.folder, tmp_path / "moved"))
    build(init_from=str(path), tokenizer=moved)
    beside = shutil.copytree(weights["text_weights"], tmp_path / "xlmr")
    shutil.copytree(tokenizer.folder, beside, dirs_exist_ok=True)
    build(text_weights=str(beside))
    with pytest.raises(UserError, match=f"^--text-weights {beside} was trained with another tokenizer"):
        build(text_weights=str(beside), tokenizer=other)


@pytest.mark.parametrize("said, words", [({}, 0), ({"max_words": 3}, 3), ({"max_words": 3, "eval_max_words": 2}, 2)])
def test_texts_are_cut_to_the_words_of_validation(build, save, tokenizer, tmp_path, said, words):
    content = torch.load(save(build()), weights_only=True)
    content["cfg"]["task"].update(said)
    save_checkpoint(content, tmp_path / "words.pt")
    export(["checkpoint", str(tmp_path / "words.pt"), str(tmp_path / "merged")])
    for path in ("words.pt", "merged/checkpoint.pt"):
        read = Encoder.load(tmp_path / path).tokenizer
        assert read.max_words == words
        expected = " ".join(CAPTIONS[2].split()[: words or None])
        assert read.encode_batch([CAPTIONS[2]]) == tokenizer.encode_batch([expected])


def test_missing_and_other_tensors_are_named(build, save):
    model = build()
    unknown = save(model, **{"fusion.layer.7.more": torch.ones(2)})
    with pytest.raises(DataError, match="'fusion.layer.7.more': unknown tensor"):
        Encoder.load(unknown)
    wrong = save(model, **{"itm_head.3.bias": torch.ones(3)})
    with pytest.raises(DataError, match=r"'itm_head.3.bias': tensor has shape \[3\], expected \[2\]"):
        Encoder.load(wrong)
    with pytest.raises(DataError, match="'temp': is a str, not a tensor"):
        Encoder.load(save(model, temp="text"))


def test_exported_it_needs_no_other_file(build, save, weights, tokenizer, tmp_path):
    path = save(shake(build(preset="lit", **weights)))
    export(["checkpoint", str(path), str(tmp_path / "out")])
    shutil.move(tmp_path / "out", tmp_path / "moved")
    whole, left_out = Encoder.load(tmp_path / "moved/checkpoint.pt"), Encoder.load(path)
    assert type(whole.network) is type(left_out.network)
    torch.testing.assert_close(scores(whole.network, tokenizer), scores(left_out.network, tokenizer))
    assert torch.load(tmp_path / "moved/checkpoint.pt", weights_only=True)["cfg"]["model"]["image_weights"] is None


TUNED = {
    "labels": {"heads": "labels", "num_labels": 3},
    "two_images": {"heads": "labels", "num_labels": 2, "images_per_text": 2},
    "answers": {"heads": "answers"},
    "which_image": {"heads": "which_image", "images_per_text": 2},
}


def told(network, tokenizer, kind):
    """What a fine-tuned network says of a batch of three captions."""
    head, images = TUNED[kind]["heads"], TUNED[kind].get("images_per_text", 1)
    images = 1 if head == "which_image" else images
    tokens = torch.full((3, 8), 1)
    rows = [torch.tensor(tokenizer.tokenize([caption], 8))[0] for caption in CAPTIONS]
    for row, ids in enumerate(rows):
        tokens[row, : len(ids)] = ids
    last = torch.tensor([len(ids) - 1 for ids in rows])
    more = {}
    if head == "answers":
        places = (torch.arange(7) < last[:, None]).flatten().nonzero().squeeze(1)
        more = {"answers": tokens, "answer_places": places, "answer_of": torch.tensor([2, 0, 0])}
    torch.manual_seed(7)
    with torch.no_grad():
        found = network.eval()(tokens, last, torch.randn(3 * images, 3, 48, 48), head=head, **more)
    return found["answers" if head == "answers" else "logits"]


@pytest.mark.parametrize("kind", TUNED)
def test_a_fine_tuned_one_starts_from_a_pre_trained_one_and_is_read_again(build, save, tokenizer, kind, caplog):
    before = shake(build())
    with caplog.at_level(logging.INFO):
        model = build(seed=1, init_from=str(save(before)), **TUNED[kind])
    assert "its bbox_head is left out" in caplog.text and "its temp is left out" in caplog.text
    assert ("_head: random here" in caplog.text) == (kind != "answers")
    source, own = before.state_dict(), model.state_dict()
    for name in ("output.dense.weight", "crossattention.self.query.weight", "crossattention.self.key.bias"):
        for layer in range(model.fusion.views):
            assert torch.equal(own[f"fusion.layer.{layer}.{name}"], source[f"fusion.layer.0.{name}"])
        if kind == "answers":
            assert torch.equal(own[f"text_decoder.layer.0.{name}"], source[f"fusion.layer.0.{name}"])
    if kind == "answers":
        for name in ("embeddings.word_embeddings.weight", "embeddings.LayerNorm.bias"):
            assert torch.equal(own[f"text_decoder.{name}"], source[f"text_encoder.{name}"])
        for name in ("bias", "dense.weight"):
            assert torch.equal(own[f"text_decoder.lm_head.{name}"], source[f"lm_head.{name}"])
    path = save(shake(model))
    again, loaded = build(seed=2, init_from=str(path), **TUNED[kind]), Encoder.load(path).network
    expected = told(model, tokenizer, kind)
    torch.testing.assert_close(told(loaded, tokenizer, kind), expected)
    torch.testing.assert_close(told(again, tokenizer, kind), expected)


def test_frozen_layers_of_two_images_are_kept_in_the_checkpoint(build, save, tokenizer):
    """They stand at other places than in the checkpoint that they are copies of."""
    options = {**TUNED["two_images"], "init_from": str(save(shake(build()))), "trainable": "-. +cls_head"}
    model = build(seed=1, **options)
    nn.init.normal_(model.cls_head[0].weight)
    path = save(model)
    saved = torch.load(path, weights_only=True)["model"]
    assert not any(name.startswith("text_encoder.") for name in saved)
    assert {"fusion.layer.0.output.dense.bias", "fusion.layer.1.crossattention.self.key.bias"} <= saved.keys()
    expected = told(model, tokenizer, "two_images")
    torch.testing.assert_close(told(Encoder.load(path).network, tokenizer, "two_images"), expected)


def test_a_model_of_one_image_does_not_start_from_one_of_two(build, save):
    path = save(build(**TUNED["two_images"]))
    with pytest.raises(UserError, match="--images-per-text 1: the checkpoint .* reads a text beside 2 images"):
        build(init_from=str(path), **TUNED["labels"])


def test_a_public_text_encoder_goes_into_all_copies_and_the_decoder(build, weights):
    model = build(**TUNED["answers"], **weights)
    source = torch.load(f"{weights['text_weights']}/pytorch_model.bin", weights_only=True)
    name = "intermediate.dense.weight"
    assert torch.equal(model.text_decoder.layer[0].state_dict()[name], source[f"encoder.layer.3.{name}"])
    words = "embeddings.word_embeddings.weight"
    assert torch.equal(model.text_decoder.state_dict()[words], model.text_encoder.state_dict()[words])
    model = build(**TUNED["two_images"], **weights)
    for layer in model.fusion.layer:
        assert torch.equal(layer.state_dict()[name], source[f"encoder.layer.3.{name}"])
