"""What a checkpoint says about its place in the sequence: accepted, resumed, or refused."""

import hashlib

import numpy as np
import pytest
import torch

from mlvl_fairseq.checkpoints.source import fingerprint_of, fingerprint_tensor
from mlvl_fairseq.continual.learner import LanguageState, tokens_fingerprint
from mlvl_fairseq.continual.row_scales import row_scale
from mlvl_fairseq.errors import UserError

CLIP = ["a", "b", "<bos>", "<eos>"]
GERMAN, FRENCH = [*CLIP, "ä", "ß"], [*CLIP, "ä", "ß", "ç"]


def state_of(tokens, position, current=()):
    """`current`: tokens of one or two languages at once; a token that occurs twice is in both."""
    counts = np.zeros((2, len(tokens)), np.int64)
    for token in current:
        counts[int(counts[0, token] > 0), token] += 3
    return LanguageState(tokens, len(CLIP), position, counts, np.zeros(len(tokens), np.int64))


def saved(state):
    return {f"model.{name}": tensor.clone() for name, tensor in state.state_dict().items()}


def test_fingerprints_follow_order_and_spelling():
    assert fingerprint_of(tokens_fingerprint(CLIP)) == hashlib.sha256(b"a\nb\n<bos>\n<eos>").hexdigest()
    assert fingerprint_tensor("00ff10").tolist() == [0, 255, 16]
    assert not torch.equal(tokens_fingerprint(CLIP), tokens_fingerprint(CLIP[::-1]))


def test_handover_counts_up_and_takes_the_new_language_s_identity():
    german, french = state_of(GERMAN, 1, [0, 4, 4]), state_of(FRENCH, 2, [0, 6])  # 4: of two languages at once
    checkpoint = saved(german)
    assert french.is_handover(checkpoint, "model.")
    french.hand_over(checkpoint, "model.")
    assert checkpoint["model.token_frequencies"].tolist() == [3, 2, 2, 2, 3, 1, 1]
    french.load_state_dict({name.removeprefix("model."): tensor for name, tensor in checkpoint.items()})
    assert (int(french.position), french.current_tokens.tolist()) == (2, [1, 0, 0, 0, 0, 0, 1])
    assert torch.equal(french.vocabulary_fingerprint, tokens_fingerprint(FRENCH))


def test_resuming_is_no_handover():
    assert not state_of(GERMAN, 1).is_handover(saved(state_of(GERMAN, 1)), "model.")


def test_a_language_without_new_tokens_can_follow():
    assert state_of(GERMAN, 2).is_handover(saved(state_of(GERMAN, 1)), "model.")


@pytest.mark.parametrize("position, other, learned", [(1, 3, 4), (3, 1, 2), (0, 1, 2)])
def test_another_place_in_the_sequence_is_refused(position, other, learned):
    message = f"the checkpoint has learned {learned} language.*needs one that has learned {position}"
    with pytest.raises(UserError, match=message):
        state_of(GERMAN, position).is_handover(saved(state_of(GERMAN, other)), "model.")


@pytest.mark.parametrize(
    "tokens, position, given, given_position",
    [
        (FRENCH, 2, [*CLIP, "ß", "ä"], 1),  # the same tokens in another order
        (GERMAN, 2, FRENCH, 1),  # more tokens than this run has
        (FRENCH, 1, GERMAN, 1),  # resumed with a vocabulary that has grown since
        (GERMAN, 1, [*CLIP, "ä", "ü"], 1),
    ],
)
def test_another_vocabulary_is_refused(tokens, position, given, given_position):
    with pytest.raises(UserError, match="vocabulary does not fit"):
        state_of(tokens, position).is_handover(saved(state_of(given, given_position)), "model.")


def test_shares_of_use_add_up_over_languages_and_survive_half_precision():
    english, german = np.array([6, 2, 0, 0]), np.array([[1, 0, 0, 0, 3, 0]])
    first = LanguageState(GERMAN, len(CLIP), 0, german, english)
    use = first.use(0)
    assert use.share.tolist() == pytest.approx([0.25, 0, 0, 0, 0.75, 0])
    assert use.earlier_share.tolist() == pytest.approx([0.75, 0.25, 0, 0, 0, 0])
    first = LanguageState(GERMAN, len(CLIP), 0, german, english).half()
    second = LanguageState(FRENCH, len(CLIP), 1, np.array([[0, 0, 0, 0, 1, 0, 1]]), np.zeros(0, np.int64))
    checkpoint = saved(first)
    second.hand_over(checkpoint, "model.")
    second.load_state_dict({name.removeprefix("model."): tensor for name, tensor in checkpoint.items()})
    assert second.use(0).earlier_share.tolist() == pytest.approx([1.0, 0.25, 0, 0, 0.75, 0, 0], rel=1e-9)
    expected = [0, 0, 0, 0, 0.5 / (0.5 + 0.75), 0, 1]
    assert row_scale("usage_share", second.use(0)).tolist() == pytest.approx(expected)


def test_tokens_that_a_method_shows_besides_count_as_current():
    state = state_of(GERMAN, 1, [4])
    assert state.use(torch.tensor([0, 1, 0, 0, 1, 0])).current.tolist() == [False, True, False, False, True, False]
