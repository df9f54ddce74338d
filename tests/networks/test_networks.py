"""One interface for every family."""

import re

import numpy as np
import pytest
import torch

from mlvl_fairseq.checkpoints.formats.xlmr import XlmrWeights, read_xlmr, write_xlmr
from mlvl_fairseq.checkpoints.source import WeightSource, format_of
from mlvl_fairseq.data.images.transforms import ImageTransform
from mlvl_fairseq.data.text.sentencepiece import SentencePieceTokenizer, train_sentencepiece
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.fairseq_patches import import_clip
from mlvl_fairseq.inference import Encoder
from mlvl_fairseq.inference.encoder import frozen_files
from mlvl_fairseq.modules.heads import FeatureHead
from mlvl_fairseq.modules.towers.clip_text import CLIPTextTower
from mlvl_fairseq.modules.towers.xlmr import XlmrConfig
from mlvl_fairseq.modules.x_projector import CProjector, XProjector
from mlvl_fairseq.networks import NETWORKS
from mlvl_fairseq.networks.clip import ClipNetwork
from mlvl_fairseq.networks.trikd import TrikdNetwork

SENTENCES = [f"a {colour} {thing} on the {place}" for colour in ("red", "blue") for thing in ("cat", "dog", "cup")
             for place in ("table", "sofa", "street")]  # fmt: skip


@pytest.fixture(scope="module")
def xlmr_folder(tmp_path_factory):
    """An XLM-R folder: tokenizer and random weights."""
    folder = tmp_path_factory.mktemp("xlmr")
    (folder / "text.txt").write_text("\n".join(SENTENCES))
    train_sentencepiece([folder / "text.txt"], folder, 26, 1.0)
    torch.manual_seed(0)
    config = XlmrConfig(len(SentencePieceTokenizer(folder)), 2, 16, 32, 2, max_positions=20)
    tensors = {name: tensor for name, tensor in config.build().state_dict().items() if name != "version"}
    write_xlmr(XlmrWeights(config, tensors, "random"), folder / "model.pt")
    return folder


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("clip") / "clip.pt"
    state = import_clip().model.CLIP(32, 16, 1, 64, 8, 10, 49408, 64, 1, 1).state_dict()
    torch.save({**state, "context_length": torch.tensor(10)}, path)
    return path


def test_every_family_names_its_frozen_files_and_says_what_they_are():
    assert {name for network in NETWORKS.values() for name in network.frozen_files} == frozen_files().keys()
    assert all(about for about in frozen_files().values())


@pytest.mark.parametrize("given", ["folder", "file"])
def test_a_text_encoder_is_a_network_without_images(xlmr_folder, given):
    encoder = Encoder.load(xlmr_folder if given == "folder" else xlmr_folder / "model.pt")
    texts = encoder.encode_texts(["a red cat", "a blue cup on the street"])
    tokenizer, weights = SentencePieceTokenizer(xlmr_folder), read_xlmr(xlmr_folder)
    for text, vector in zip(["a red cat", "a blue cup on the street"], texts):
        ids = torch.tensor([[0, *tokenizer.encode_batch([text])[0], 2]])
        states = weights.encoder().eval()(ids).double()
        np.testing.assert_allclose(vector, states.mean(1)[0].detach().numpy(), rtol=1e-4, atol=1e-6)
    with pytest.raises(UserError, match="has no image tower"):
        encoder.encode_images(torch.zeros(1, 3, 16, 16))


def test_a_text_encoder_needs_its_tokenizer(xlmr_folder, tmp_path):
    (tmp_path / "mte.pt").write_bytes((xlmr_folder / "model.pt").read_bytes())
    with pytest.raises(UserError, match="mte.pt has no dict.txt beside it: give XLM-R's folder, --sentencepiece"):
        Encoder.load(tmp_path / "mte.pt")
    moved = Encoder.load(tmp_path / "mte.pt", sentencepiece=xlmr_folder)
    assert moved.fingerprint == Encoder.load(xlmr_folder).fingerprint


def test_options_of_another_family_are_refused(clip_file):
    with pytest.raises(UserError, match="clip.pt: there is no --mte for this kind of model"):
        Encoder.load(clip_file, mte="mte.pt")


def test_a_network_names_its_preprocessing(clip_file):
    encoder = Encoder.load(clip_file)
    assert encoder.preprocess == ImageTransform("clip", 16) and str(encoder.preprocess) == "clip@16"
    assert (encoder.embed_dim, encoder.max_length, encoder.tokenizer.name) == (32, 10, "clip-bpe")


def test_what_a_file_is_is_said_once(clip_file, xlmr_folder, tmp_path):
    assert format_of(WeightSource(clip_file)).family == "clip"
    assert format_of(WeightSource(xlmr_folder)).family == format_of(WeightSource(xlmr_folder / "model.pt")).family
    with pytest.raises(UserError, match="model.pt holds a model of the family 'mte', not 'clip'"):
        format_of(WeightSource(xlmr_folder / "model.pt"), "clip")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(DataError, match="other.pt: no checkpoint of a known format; known are: .*Hugging Face.*XLM-R"):
        format_of(WeightSource(tmp_path / "other.pt"))


def test_a_folder_of_checkpoints_names_them(tmp_path):
    """Such as the folder of a run given to --init-from, or one that fairseq-train has saved into."""
    with pytest.raises(DataError, match="no CLIP checkpoint of a known format"):
        format_of(WeightSource(tmp_path), "clip")
    for name in ("checkpoint_last.pt", "01-de/checkpoint_best.pt", "00-en/checkpoint_best.pt", "01-de/train.log"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    best = "00-en/checkpoint_best.pt, 01-de/checkpoint_best.pt"
    named = f"{tmp_path}: is no model, but a folder that holds some; give one of them: {best}, checkpoint_last.pt"
    with pytest.raises(DataError, match=f"^{re.escape(named)}$"):
        format_of(WeightSource(tmp_path), "clip")
    for number in range(9):
        (tmp_path / f"checkpoint{number}.pt").touch()
    with pytest.raises(DataError, match=r"checkpoint5.pt, \.\.\. and 4 more$"):
        format_of(WeightSource(tmp_path))


@pytest.mark.parametrize("head", [None, FeatureHead(5, 6, 4)])
def test_given_features_go_through_the_head_if_there_is_one(head):
    torch.manual_seed(0)
    clip = ClipNetwork(CLIPTextTower(50, 16, 1, 2, 4, 10), head).eval()
    trikd = TrikdNetwork(XProjector(8, 16, 2, 1), CProjector(4, 8), head=head).eval()
    features = torch.randn(3, clip.feature_dim)
    assert clip.feature_dim == trikd.feature_dim == (5 if head else 4)
    own_space = head(features) if head else features
    assert torch.equal(clip.encode_features(features).vector, own_space)
    torch.testing.assert_close(trikd.encode_features(features).vector, own_space @ trikd.c_projector.weight.T)
    assert torch.equal(trikd.encode_image(own_space).vector, trikd.encode_features(features).vector)


def test_encoded_texts_have_states_and_their_mask(xlmr_folder):
    weights = read_xlmr(xlmr_folder)
    network = TrikdNetwork(XProjector(16, 16, 2, 1), CProjector(4, 16), weights.encoder()).eval()
    tokens = torch.tensor([[0, 5, 6, 2], [0, 7, 2, 1]])
    encoded = network.encode_text(tokens, torch.tensor([3, 2]))
    assert torch.equal(encoded.mask, tokens != 1)
    assert torch.equal(encoded.states, network.mte(tokens)) and encoded.vector.shape == (2, 16)
    again = network.encode_text(tokens, torch.tensor([3, 2]), states=encoded.states)
    assert torch.equal(again.vector, encoded.vector)


def test_one_caption_is_no_list_of_captions(clip_file):
    with pytest.raises(UserError, match="give a list of captions, not one"):
        Encoder.load(clip_file).encode_texts("ein Hund")
