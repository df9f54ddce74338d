"""Batches of captions of several languages: whose they are, what is known in English, stored states."""

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Subset

from mlvl_fairseq.data.caption_dataset import MultilingualCaptionDataset
from mlvl_fairseq.data.corpus import text_states
from mlvl_fairseq.data.corpus.text_states import TokenStates, extract_token_states
from mlvl_fairseq.errors import DataError

BOS, PAD, EOS = 0, 1, 2
CAPTIONS = [[5, 6, 7], [8], [9, 10], [11, 12, 13, 14], [15]]  # three of the first language, two of the second
ROWS = np.array([[0, 0], [1, -1], [2, 1], [0, 1], [1, -1]], np.int32)


def dataset(**options):
    tokens = [torch.tensor([*caption, EOS], dtype=torch.int32) for caption in CAPTIONS]
    sizes = np.array([len(caption) for caption in tokens])
    return MultilingualCaptionDataset(tokens, sizes, ROWS, BOS, EOS, pad=PAD, lang_sizes=[3, 2], **options)


def batch(captions, rows):
    return captions.collater([captions[row] for row in rows])


def test_languages_of_a_batch():
    result = batch(dataset(), [4, 0, 2, 3])
    assert result["lang_ids"].tolist() == [1, 0, 0, 1]
    assert "has_english" not in result and "states" not in result["net_input"]
    assert dataset().collater([]) == {}


def test_captions_without_english_partner_are_known():
    result = batch(dataset(english=np.array([[1.0], [2.0]])), [0, 1, 3])
    assert result["has_english"].tolist() == [True, False, True]
    assert result["text_features"][result["has_english"]].tolist() == [[1], [2]]


@pytest.mark.parametrize("one_language, multiple, of_first, of_all", [(False, 1, 5, 6), (True, 2, 4, 6)])
def test_epochs_follow_the_temperature(one_language, multiple, of_first, of_all):
    """A low one: the larger language alone, but for the least that every language has, one caption or batch."""
    captions = dataset(shuffle=True, temperature=0.01, one_language=one_language)
    captions.keep_multiple_of = multiple
    order = captions.ordered_indices()
    assert len(order) == of_all and (order < 3).sum() == of_first


@pytest.fixture
def states(tmp_path):
    """States [T, 2] of captions of 3, 1 and 2 tokens and two special ones: caption number and position."""
    lengths = np.array([5, 3, 4])

    def encode(captions):
        return [np.stack([np.full(lengths[c], c), np.arange(lengths[c])], axis=1) for c in captions]

    extract_token_states(encode, tmp_path / "s", lengths, ["a", "b", "c"], 2, "test", "sha")
    return TokenStates(tmp_path / "s", lengths, ["a", "b", "c"], "sha")


def test_stored_states_are_padded_beside_their_captions(states):
    result = batch(dataset(states=ConcatDataset([states, Subset(states, [0, 1])])), [2, 4, 0])["net_input"]
    assert result["states"].shape == (3, result["tokens"].shape[1], 2) and result["states"].dtype == torch.float32
    assert result["states"][0].tolist() == [[2, 0], [2, 1], [2, 2], [2, 3], [0, 0]]
    assert result["states"][1].tolist() == [[1, 0], [1, 1], [1, 2], [0, 0], [0, 0]]  # the second language's second
    assert result["tokens"].eq(PAD).tolist()[0] == [False] * 4 + [True]


def test_states_of_other_captions_or_another_encoder_are_refused(states, tmp_path):
    for lengths, names, fingerprint in (
        ([5, 3, 3], ["a", "b", "c"], "sha"),
        ([5, 3, 4], ["a", "b", "d"], "sha"),
        ([5, 3, 4], ["a", "b", "c"], "other"),
    ):
        with pytest.raises(DataError):
            TokenStates(tmp_path / "s", np.array(lengths), names, fingerprint)


def test_interrupted_extraction_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(text_states, "CHUNK", 2)
    lengths, names, asked = np.array([2, 1, 3, 1, 2]), list("abcde"), []

    def encode(captions):
        if list(captions)[0] == fail_at:
            raise KeyboardInterrupt
        asked.extend(captions)
        return [np.full((lengths[c], 1), c) for c in captions]

    for fail_at in (2, None):
        try:
            extract_token_states(encode, tmp_path / "s", lengths, names, 1, "test", "sha")
        except KeyboardInterrupt:
            assert asked == [0, 1]
    assert asked == [0, 1, 2, 3, 4]
    found = TokenStates(tmp_path / "s", lengths, names, "sha")
    assert [found[c][:, 0].tolist() for c in range(5)] == [[0, 0], [1], [2, 2, 2], [3], [4, 4]] and len(found) == 5
