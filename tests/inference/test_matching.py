"""Scores of pairs: batches of like length, blocks and what is kept change nothing, and nothing is computed twice."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mlvl_fairseq.data.images.reading import LoadedImage
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.inference import matching
from mlvl_fairseq.inference.encoder import Encoder, pad_right
from mlvl_fairseq.inference.matching import ImageStates, match_pairs, require_match
from mlvl_fairseq.modules.towers.bert import BertConfig
from mlvl_fairseq.modules.towers.swin import SwinConfig
from mlvl_fairseq.networks.cclm import CclmNetwork
from mlvl_fairseq.networks.dual_encoder import DualEncoderNetwork

IMAGES = 4
TEXTS = ["a b", "c d e f", "b", "a b", "e d c b a", "f", "d c"]
TOKENS = {text: [1, *(2 + ord(letter) - ord("a") for letter in text.split()), 9] for text in TEXTS}


@pytest.fixture(scope="module")
def encoder():
    """A tiny CCLM whose text tower and fusion encoder make much of every token; captions are letters."""
    torch.manual_seed(0)
    image = SwinConfig(image_size=32, width=4, layers=(1, 1), heads=(1, 2), window=4)
    text = BertConfig(vocab_size=10, width=8, layers=2, heads=2, ffn_width=16, max_positions=9)
    network = CclmNetwork(image.build(), text.build(), 8, fusion_layers=3).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    tokenizer = SimpleNamespace(pad=0, name="letters", of_language=lambda lang: tokenizer)
    tokenizer.tokenize = lambda captions, longest: [TOKENS[caption][:longest] for caption in captions]
    return Encoder(network, tokenizer, "sha", [], "tiny.pt")


@pytest.fixture(scope="module")
def pictures():
    generator = torch.Generator().manual_seed(1)
    return [LoadedImage(torch.randn(3, 32, 32, generator=generator)) for _ in range(IMAGES)]


@pytest.fixture(scope="module")
def all_scores(encoder, pictures):
    """[images, texts], a pair at a time, each text padded to the same length, float64."""
    network = encoder.network.double()
    scores = np.empty((IMAGES, len(TEXTS)))
    with torch.no_grad():
        for row, picture in enumerate(pictures):
            image = network.encode_image(picture.pixels.double()[None])
            for column, text in enumerate(TEXTS):
                tokens, _ = pad_right([TOKENS[text], [0] * 9], 0)
                one = network.encode_text(tokens[:1], torch.tensor([len(TOKENS[text]) - 1]))
                scores[row, column] = network.match(image, one)
    network.float()
    assert scores.std(axis=0).min() > 0.01 and scores.std(axis=1).min() > 0.01, "scores tell nothing apart"
    return scores


def states(encoder, pictures, memory=1.0):
    kept = ImageStates(encoder, pictures, memory)
    encoder.encode_image_dataset(pictures, list("abcd"), keep=kept.keep)
    return kept


PAIRS = np.array(
    [(3, 0), (0, 6), (0, 4), (0, 1), (3, 3), (0, 0), (1, 6), (3, 0), (1, 2), (2, 5), (0, 2), (3, 6), (0, 3)]
)


@pytest.mark.parametrize(
    "batch_size, memory, views, kept",
    [
        (64, 1, 4, 1),
        (2, 1, 4, 1),
        (64, 1e-4, 4, 1),  # blocks of texts
        (64, 1, 1e-9, 1),  # keys and values of one image at a time
        (3, 1e-4, 0.004, 0),  # of two, whose states are not kept
    ],
)
def test_scores_are_those_of_pairs_alone(encoder, pictures, all_scores, monkeypatch, batch_size, memory, views, kept):
    monkeypatch.setattr(matching, "CPU_VIEWS_MIB", views)
    images = states(encoder, pictures, kept)
    found = match_pairs(encoder, images, TEXTS, None, *PAIRS.T, batch_size=batch_size, memory=memory)
    np.testing.assert_allclose(found, all_scores[tuple(PAIRS.T)], rtol=0, atol=1e-5)
    assert found.dtype == np.float32 and bool(images.again) is not bool(kept)


class Calls:
    """Arguments of two methods of a network."""

    def __init__(self, network, monkeypatch):
        self.keys_values, self.matched = [], []
        for name, calls in (("image_keys_values", self.keys_values), ("match_views", self.matched)):
            monkeypatch.setattr(network, name, self._noting(getattr(network, name), calls))

    @staticmethod
    def _noting(method, calls):
        def noted(*arguments):
            calls.append(arguments)
            return method(*arguments)

        return noted


def test_each_pair_is_scored_once_and_without_padding(encoder, pictures, monkeypatch):
    """Of thirteen pairs one is there twice, and captions 0 and 3 are the same: pairs of both score the same."""
    images, calls = states(encoder, pictures), Calls(encoder.network, monkeypatch)
    found = match_pairs(encoder, images, TEXTS, None, *PAIRS.T)
    assert sum(len(text.mask) for text, _ in calls.matched) == 10
    assert all(bool(text.mask.all()) for text, _ in calls.matched)
    lengths = [text.mask.shape[1] for text, _ in calls.matched]
    assert lengths == sorted(set(lengths)), "texts of a length go together, whatever their image"
    assert found[0] == found[4] == found[7] and found[5] == found[12]


def test_keys_and_values_are_computed_once_an_image(encoder, pictures, monkeypatch):
    images = states(encoder, pictures)
    monkeypatch.setattr(matching, "CPU_VIEWS_MIB", 1e-9)
    calls = Calls(encoder.network, monkeypatch)
    match_pairs(encoder, images, TEXTS, None, *PAIRS.T)
    (first, *rest) = [len(image.states) for (image,) in calls.keys_values]
    assert first == 1, "of one, which tells how large they are"
    assert rest == [1] * IMAGES
    for text, views in calls.matched:
        key, _ = views.layers[0]
        assert len(key) == len(text.mask) and key.untyped_storage().nbytes() == 17 * 8 * 4, "no copies of one image's"
    assert max(len(text.mask) for text, _ in calls.matched) > 1


def test_blocks_of_texts_keep_to_the_bound(encoder, pictures, monkeypatch):
    """States of a token have 32 bytes: blocks of 9 tokens, one text's more at most."""
    made = []
    original = matching.TextStates.__init__

    def noting(self, encoder, tokens, rows, *more):
        made.append([len(tokens[row]) for row in rows])
        original(self, encoder, tokens, rows, *more)

    monkeypatch.setattr(matching.TextStates, "__init__", noting)
    match_pairs(encoder, states(encoder, pictures), TEXTS, None, *PAIRS.T, memory=9 * 32 / 2**20)
    assert sorted(sum(made, [])) == [3, 3, 4, 4, 6, 7] and len(made) > 2
    assert all(sum(lengths) < 9 + max(lengths) for lengths in made)


def test_states_are_kept_within_the_bound(encoder, pictures):
    """Those of an image are 17 vectors of 8 float32, and its own vector one of 8."""
    one = (17 + 1) * 8 * 4 / 2**20
    kept = states(encoder, pictures, 2.5 * one)
    assert list(kept.kept) == [0, 1]
    whole = states(encoder, pictures)
    torch.testing.assert_close(kept([3, 0, 2]).states, whole([3, 0, 2]).states)
    assert (kept.again, whole.again) == (2, 0)


def test_a_picture_that_has_gone_is_told(encoder, pictures):
    gone = [*pictures[:3], LoadedImage(None, "d.jpg: no such image")]
    with pytest.raises(DataError, match="d.jpg: no such image .it could be read before"):
        ImageStates(encoder, gone, 0)([3])


def test_scores_that_are_no_numbers_are_refused(encoder, pictures, monkeypatch):
    images = states(encoder, pictures)
    monkeypatch.setattr(encoder.network, "match_views", lambda text, views: torch.full((len(text.mask),), torch.nan))
    with pytest.raises(UserError, match="tiny.pt: 10 of 10 scores are NaN or infinite"):
        match_pairs(encoder, images, TEXTS, None, *PAIRS.T)


def test_a_network_without_match_is_told(encoder):
    require_match(encoder)
    towers = encoder.network.visual_encoder, encoder.network.text_encoder
    plain = Encoder(DualEncoderNetwork(*towers, 8), encoder.tokenizer, "sha", [], "plain.pt")
    with pytest.raises(UserError, match="plain.pt: this model has no fusion encoder"):
        require_match(plain)
