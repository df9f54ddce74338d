"""What was exported is a model of ours again: the same vectors, ids, languages and fingerprint."""

import json

import numpy as np
import pytest
import torch

from mlvl_fairseq.checkpoints.archive import save_checkpoint
from mlvl_fairseq.checkpoints.clip import read_clip, read_clip_weights
from mlvl_fairseq.checkpoints.formats.huggingface_clip import to_huggingface
from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.export.exporting import export_model
from mlvl_fairseq.inference import Encoder

CAPTIONS = ["一只白色的狗", "a dog", "ein Mädchen", "بيضاء"]


@pytest.fixture
def folder(clip, export, tmp_path):
    """``folder("clip-hf")``: an export, not tried by any program."""

    def write(name, encoder=clip, **options):
        kind = export(name, **options)
        kind.programs = ()
        export_model(kind, encoder, tmp_path / name)
        return tmp_path / name

    return write


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("name", ["clip-hf", "open-clip"])
def test_a_folder_is_the_model_again(name, activation, save_clip, folder):
    clip = Encoder.load(save_clip(activation))
    again = Encoder.load(folder(name, clip))
    assert again.fingerprint == clip.fingerprint and again.languages == ["en", "de"]
    assert again.tokenize(CAPTIONS) == clip.tokenize(CAPTIONS)
    assert np.array_equal(again.encode_texts(CAPTIONS), clip.encode_texts(CAPTIONS))
    pixels = torch.randn(2, 3, 32, 32)
    assert np.array_equal(again.encode_images(pixels), clip.encode_images(pixels))


def test_frozen_segmentation_is_exported_for_a_language(save_clip, grown, folder):
    sizes = {"en": (49_500, 48_950), "de": (len(grown), len(grown.merges))}
    clip = Encoder.load(save_clip(segmentation=sizes))
    again = Encoder.load(folder("clip-hf", clip, lang="en"))
    assert again.tokenize(CAPTIONS) == clip.tokenize(CAPTIONS, "en") != clip.tokenize(CAPTIONS, "de")
    assert np.array_equal(again.encode_texts(CAPTIONS), clip.encode_texts(CAPTIONS, "en"))
    assert again.network.text.token_embedding.num_embeddings == 49_500


def test_without_its_tokenizer_a_grown_folder_is_no_model(folder):
    out = folder("clip-hf")
    tokens = (out / "vocab.json").read_text(encoding="utf-8")
    (out / "vocab.json").write_text(json.dumps({**json.loads(tokens), "!": 1, '"': 0}), encoding="utf-8")
    with pytest.raises(DataError, match="does not begin with CLIP's own tokens"):
        Encoder.load(out)
    (out / "vocab.json").unlink()
    with pytest.raises(DataError, match="for a vocabulary of 49408; a grown one is in vocab.json"):
        Encoder.load(out)


def test_other_towers_of_open_clip_are_refused(folder):
    from safetensors.torch import save_file

    out = folder("open-clip")
    save_file({"text.transformer.x": torch.zeros(1)}, out / "open_clip_model.safetensors")
    with pytest.raises(DataError, match="holds no text tower of OpenAI's CLIP"):
        Encoder.load(out)


def test_the_scale_is_a_number_even_where_a_file_has_none(clip, tmp_path):
    """transformers' ``from_pretrained`` dies of null."""
    weights = read_clip_weights(clip.source)
    object.__setattr__(weights, "logit_scale", None)
    to_huggingface(weights, tmp_path)
    start = json.loads((tmp_path / "config.json").read_text())["logit_scale_init_value"]
    assert start == pytest.approx(np.log(1 / 0.07)) == pytest.approx(read_clip(tmp_path).weights.logit_scale)


def test_a_whole_checkpoint_keeps_what_a_sequence_needs(save_clip, clip, folder, tmp_path):
    """Place and memory; the decay that training put off is carried out once."""
    content = load_checkpoint_file(save_clip())
    rows, name = torch.tensor([3, 49_406, 49_407]), "text.token_embedding."
    content["model"].update({
        f"{name}idle_decay_bits": torch.tensor([0.5], dtype=torch.float64).view(torch.int64),
        f"{name}trained_rows": rows, "language_state.position": torch.tensor(1), "continual.er.memory": torch.ones(4),
    })  # fmt: skip
    save_checkpoint(content, tmp_path / "decayed.pt")
    encoder = Encoder.load(tmp_path / "decayed.pt")
    assert not np.array_equal(encoder.encode_texts(CAPTIONS), clip.encode_texts(CAPTIONS))
    out = folder("checkpoint", encoder) / "checkpoint.pt"
    whole, state = Encoder.load(out), load_checkpoint_file(out)
    assert np.array_equal(whole.encode_texts(CAPTIONS), encoder.encode_texts(CAPTIONS))
    assert {"language_state.position", "continual.er.memory"} <= state["model"].keys()
    assert state["cfg"]["model"]["init_from"] is None and "frozen_fingerprint" not in state["model"]


@pytest.mark.parametrize("preset", ["lora+ln", "lwa"])
def test_dual_encoders_are_whole(preset, save_dual_encoder, folder):
    encoder = Encoder.load(save_dual_encoder(preset=preset))
    again = Encoder.load(folder("checkpoint", encoder) / "checkpoint.pt")
    np.testing.assert_allclose(again.encode_texts(CAPTIONS), encoder.encode_texts(CAPTIONS), rtol=0, atol=1e-6)
    assert again.tokenize(CAPTIONS) == encoder.tokenize(CAPTIONS)
