"""What a checkpoint says about its place in the sequence: accepted, resumed, or refused."""

import hashlib

import pytest
import torch

from mlvl_fairseq.continual.language_state import LanguageState, fingerprint_tensor, tokens_fingerprint
from mlvl_fairseq.errors import UserError

CLIP = ["a", "b", "<bos>", "<eos>"]
GERMAN, FRENCH = [*CLIP, "ä", "ß"], [*CLIP, "ä", "ß", "ç"]


def state_of(tokens, position, current=()):
    counts = torch.zeros(len(tokens))
    for token in current:
        counts[token] += 1
    return LanguageState(tokens, len(CLIP), position, counts)


def saved(state):
    return {f"model.{name}": tensor.clone() for name, tensor in state.state_dict().items()}


def test_fingerprints_follow_order_and_spelling():
    assert bytes(tokens_fingerprint(CLIP).tolist()).hex() == hashlib.sha256(b"a\nb\n<bos>\n<eos>").hexdigest()
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
