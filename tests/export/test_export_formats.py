"""Each format is written and read by the program it is for, where that is installed (extra ``export``)."""

import importlib.metadata
import json

import numpy as np
import pytest
import torch

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.export.exporting import export_model
from mlvl_fairseq.export.pictures import own_pictures
from mlvl_fairseq.export.samples import OWN_CAPTIONS
from mlvl_fairseq.inference import Encoder

CAPTIONS = list(OWN_CAPTIONS)


def needs(*packages):
    """Skips where the extra ``export`` is not installed."""
    for package in packages:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{package} is not installed (pip install 'mlvl_fairseq[export]')")


def pixels_of(encoder):
    return torch.stack([encoder.preprocess(picture) for picture in own_pictures(encoder.preprocess.size)])


def assert_near(theirs, ours):
    np.testing.assert_allclose(np.asarray(theirs), ours, rtol=0, atol=2e-5 * np.abs(ours).max())
    assert np.abs(ours[0] - ours[1]).max() > 1e-3  # rows that are all alike would prove nothing


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_clip_in_transformers(activation, save_clip, export, tmp_path):
    needs("transformers")
    from transformers import AutoTokenizer, CLIPModel

    encoder = Encoder.load(save_clip(activation))
    export_model(export("clip-hf"), encoder, tmp_path / "out")
    model, tokenizer = CLIPModel.from_pretrained(tmp_path / "out"), AutoTokenizer.from_pretrained(tmp_path / "out")
    batch = tokenizer(CAPTIONS, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        assert_near(model.get_text_features(**batch).pooler_output, encoder.encode_texts(CAPTIONS))
        images = model.get_image_features(pixel_values=pixels_of(encoder)).pooler_output
    assert_near(images, encoder.encode_images(pixels_of(encoder)))
    assert float(model.logit_scale) == 2.5


def test_a_text_tower_alone_in_transformers(save_clip, export, tmp_path):
    needs("transformers")
    from transformers import AutoTokenizer, CLIPTextModelWithProjection

    encoder = Encoder.load(save_clip(vision=False))
    export_model(export("clip-hf"), encoder, tmp_path / "out")
    model = CLIPTextModelWithProjection.from_pretrained(tmp_path / "out")
    batch = AutoTokenizer.from_pretrained(tmp_path / "out")(CAPTIONS, padding=True, return_tensors="pt")
    with torch.no_grad():
        assert_near(model(**batch).text_embeds, encoder.encode_texts(CAPTIONS))


def test_open_clip(clip, export, tmp_path):
    needs("open_clip_torch")
    import open_clip

    proof = export_model(export("open-clip"), clip, tmp_path / "out")
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}/out")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path}/out")
    plain = [caption for caption in CAPTIONS if caption.isascii() and "  " not in caption]
    with torch.no_grad():
        assert_near(model.eval().encode_text(tokenizer(plain)), clip.encode_texts(plain))
        images = model.encode_image(torch.stack([preprocess(picture) for picture in own_pictures(32)]))
    assert_near(images, clip.encode_images(pixels_of(clip)))
    tokens = proof.trials["open_clip_torch"].tokens
    assert tokens.differ == 0 and tokens.rewritten >= tokens.rewritten_differ > 0  # ftfy: full-width punctuation


@pytest.mark.parametrize("family", ["clip", "trikd", "lwa"])
def test_graphs_of_any_batch_and_length(family, clip, save_trikd, save_dual_encoder, export, tmp_path):
    needs("onnxruntime", "onnxscript")
    import onnxruntime

    makes = {"trikd": save_trikd, "lwa": lambda: save_dual_encoder(preset="lwa+ln")}
    encoder = Encoder.load(makes[family]()) if family in makes else clip
    export_model(export("onnx"), encoder, tmp_path / "out")
    text = onnxruntime.InferenceSession(tmp_path / "out/textual/model.onnx")
    for count in (1, 3, 40):
        captions = (CAPTIONS * 2)[:count]
        ids = encoder.tokenize(captions)
        longest = max(map(len, ids))
        rows = np.array([row + [encoder.tokenizer.pad] * (longest - len(row)) for row in ids], np.int32)
        found = text.run(None, {"text": rows})[0]
        np.testing.assert_allclose(found, encoder.encode_texts(captions), rtol=1e-4, atol=2e-5)
    pixels = pixels_of(encoder)
    image = onnxruntime.InferenceSession(tmp_path / "out/visual/model.onnx")
    for count in (1, 4):
        found = image.run(None, {"image": pixels[:count].numpy()})[0]
        np.testing.assert_allclose(found, encoder.encode_images(pixels[:count]), rtol=1e-4, atol=2e-5)
    said = json.loads((tmp_path / "out/config.json").read_text())
    assert said["text_cfg"]["context_length"] == encoder.max_length  # immich pads to it
    assert json.loads((tmp_path / "out/visual/preprocess_cfg.json").read_text())["size"] == [32, 32]


@pytest.mark.parametrize("towers", ["trikd", "mte", "lora", "deit", "clip_towers"])
def test_routers_of_sentence_transformers(towers, save_trikd, mte, save_dual_encoder, export, tmp_path):
    needs("sentence-transformers")
    from sentence_transformers import SentenceTransformer

    makes = {
        "trikd": save_trikd,
        "mte": lambda: mte[0].source,
        "lora": lambda: save_dual_encoder(preset="lora+ln", lora_rank=2),
        "deit": lambda: save_dual_encoder(image_tower="deit3_large", text_pooling="mean"),
        "clip_towers": lambda: save_dual_encoder(
            image_tower="clip_vit_b32", image_patch_size=16, transform="mclip", temperature="log_scale"
        ),
    }
    encoder = Encoder.load(makes[towers]())
    export_model(export("sentence-transformers"), encoder, tmp_path / "out")
    model = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert_near(model.encode(CAPTIONS), encoder.encode_texts(CAPTIONS))
    if encoder.network.preprocess is not None:
        given = {"pixel_values": pixels_of(encoder), "modality": "image"}
        with torch.no_grad():
            assert_near(model(given)["sentence_embedding"], encoder.encode_images(pixels_of(encoder)))


def test_an_encoder_of_fairseq_s(mte, export, tmp_path):
    encoder, weights = mte
    proof = export_model(export("xlmr"), encoder, tmp_path / "out")
    again = Encoder.load(tmp_path / "out")
    assert again.fingerprint == weights.fingerprint and again.tokenize(CAPTIONS) == encoder.tokenize(CAPTIONS)
    assert proof.proven and list(proof.trials) == ["fairseq-fixed"]


@pytest.mark.parametrize("name, family, reason", [
    ("clip-hf", "trikd", "a network of the family 'trikd' and no CLIP; these formats fit: features, onnx, sentence-"),
    ("sentence-transformers", "clip", "these formats fit: checkpoint, clip-hf, features, onnx, open-clip"),
    ("sentence-transformers", "lwa", "its text tower has layerwise adapters, .*; these formats fit: checkpoint, "),
    ("sentence-transformers", "other heads", "its X-projector has attention heads 4 and its text encoder 2"),
    ("open-clip", "no pictures", "it has no image tower"),
    ("clip-hf", "frozen", "give --lang with one of en,de; these formats fit: checkpoint, clip-hf with --lang"),
    ("xlmr", "clip", "and no MTE"),
])  # fmt: skip
def test_what_does_not_fit_names_what_fits(
    name, family, reason, save_clip, clip, save_trikd, save_dual_encoder, grown, export, tmp_path
):
    sizes = [(49_500, 48_950), (len(grown), len(grown.merges))]
    makes = {
        "clip": lambda: clip.source,
        "no pictures": lambda: save_clip(vision=False),
        "frozen": lambda: save_clip(segmentation=dict(zip(("en", "de"), sizes))),
        "trikd": save_trikd,
        "other heads": lambda: save_trikd(heads=4),
        "lwa": lambda: save_dual_encoder(preset="lwa"),
    }
    with pytest.raises(UserError, match=reason):
        export_model(export(name), Encoder.load(makes[family]()), tmp_path / "out")
    assert not (tmp_path / "out").exists()
