"""Which tokens are masked, against what the published code did in 6000 draws of each length."""

import math

import numpy as np
import pytest
from golden import load_golden

from mlvl_fairseq.data.masking import Masking
from mlvl_fairseq.errors import UserError

GOLDEN = load_golden("cclm_masking")
MOST = {"image": 12, "para": 20, "tlm": 20}
SETTINGS = ["image_text_len3", "image_text_len5", "image_text_len12", "para_text_len40", "para_text_len64", "tlm_len60"]
DRAWS = 2000
SPECIAL = (0, 1, 2, 3, 119)
PIECE = 50


def new_masking(**options):
    return Masking(119, 120, SPECIAL, **options)


def text_of(length):
    return [0, *[PIECE] * (length - 2), 2]


def assert_share(found, expected, draws, what):
    """Two shares of as many independent draws, and of the published code's 6000, within 3 standard deviations."""
    deviation = math.sqrt(expected * (1 - expected) * (1 / draws + 1 / GOLDEN["image_text_len3"]["trials"]))
    assert abs(found - expected) <= 3 * deviation, (what, found, expected, deviation)


@pytest.mark.parametrize("setting", SETTINGS)
def test_places_and_kinds_of_masks_are_as_frequent_as_published(setting):
    golden, length = GOLDEN[setting], int(setting.partition("len")[2])
    masking = new_masking(most=MOST[setting.partition("_")[0]], also_special=True)
    rng = np.random.default_rng(1)
    masked = np.zeros((DRAWS, length), dtype=bool)
    kinds = {"mask": 0, "keep": 0, "random": 0}
    for row in masked:
        tokens, positions, labels = masking(text_of(length), rng)
        assert len(positions) == golden["n_pred_formula"] == int(next(iter(golden["n_masked_hist"])))
        assert len(set(positions)) == len(positions) and (labels == np.array(text_of(length))[positions]).all()
        row[positions] = True
        for token, label in zip(tokens[positions], labels, strict=True):
            kinds["mask" if token == 119 else "keep" if token == label else "random"] += 1
    found = {"first": 0, "second": 1, "mid": length // 2, "last_eos": length - 1}
    for name, position in found.items():
        assert_share(masked[:, position].mean(), golden[f"pos_freq_{name}"], DRAWS, name)
    number = masked.sum()
    followed = (masked[:, :-1] & masked[:, 1:]).sum() / number
    assert_share(followed, golden["p_next_also_masked"], DRAWS, "next")  # those of one text depend on each other
    for kind in kinds:
        assert_share(kinds[kind] / number, golden[f"frac_{kind}"], number, kind)


def test_number_of_masks_rounds_halves_to_the_even_number():
    masking = new_masking(most=20)
    assert {length: masking.number(int(length)) for length in GOLDEN["round_half_even"]} == GOLDEN["round_half_even"]
    assert new_masking(most=12).number(40) == 12
    assert [new_masking(probability=0.5).number(length) for length in (3, 5, 7, 9)] == [2, 2, 4, 4]
    assert masking.number(1) == 1


def test_same_seed_same_masks_and_the_text_is_left_alone():
    text = np.array([0, *range(4, 42), 2])
    kept = text.copy()
    first, again, other = (new_masking()(text, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert all((one == two).all() for one, two in zip(first, again, strict=True))
    assert (first.positions != other.positions).any()
    assert (text == kept).all()


def test_by_default_no_special_token_is_masked_or_put_in():
    masking = Masking(9, 12, (0, 2, 3, 9), probability=0.9, most=40, span_probability=0.5)
    text, rng = [0, 4, 5, 2, 3, 6, 7, 8, 10, 2], np.random.default_rng(0)
    put_in = {}
    for _ in range(3000):
        tokens, positions, labels = masking(text, rng)
        assert set(positions) <= {1, 2, 5, 6, 7, 8} and not {0, 2, 3, 9} & set(labels)
        assert len(positions) == 6  # all that can be, fewer than round(0.9 * 10)
        for token, label in zip(tokens[positions], labels, strict=True):
            put_in[token] = put_in.get(token, 0) + (token != label)
    assert put_in.keys() == {1, 4, 5, 6, 7, 8, 9, 10, 11} and put_in.pop(9) > 14000
    share = np.array([put_in[piece] for piece in (1, 11)]) / 1800  # of a tenth of 18,000 tokens
    assert (abs(share - 1 / 8) < 4 * math.sqrt(1 / 8 * 7 / 8 / 1800)).all()


def test_published_any_id_is_put_in():
    masking = Masking(9, 12, (0, 2, 3, 9), also_special=True)
    rng = np.random.default_rng(0)
    masked = [masking([0, 5, 2], rng) for _ in range(3000)]
    assert {1, 2} == {int(one.positions[0]) for one in masked}
    assert {int(one.tokens[1]) for one in masked} == set(range(12))


def test_spans_are_of_two_or_three_tokens_and_end_before_special_ones():
    masking = new_masking(probability=0.01, most=1, span_probability=1.0)
    lengths = []

    class Every(Masking):
        def number(self, length):
            return 2

    every = Every(119, 120, SPECIAL, span_probability=1.0, longest_span=2)
    rng = np.random.default_rng(0)
    for _ in range(200):
        positions = every([0, 50, 50, 2, 50, 50, 2], rng).positions.tolist()
        lengths.append(positions)
        assert masking(text_of(10), rng).positions.shape == (1,)
    assert {tuple(row) for row in lengths} == {(1, 2), (4, 5), (1, 5), (2, 4), (2, 5)}  # no (1, 4): 1 takes 2 along


def test_a_text_without_anything_to_mask_comes_back():
    tokens, positions, labels = new_masking()([0, 2], np.random.default_rng(0))
    assert tokens.tolist() == [0, 2] and positions.shape == labels.shape == (0,)
    assert positions.dtype == labels.dtype == np.int64


@pytest.mark.parametrize(
    "options", [{"probability": 1.5}, {"span_probability": -0.1}, {"most": 0}, {"longest_span": 1}]
)
def test_numbers_that_say_nothing_are_refused(options):
    with pytest.raises(UserError, match="masking"):
        new_masking(**options)


def test_what_is_chosen_already_begins_no_span():
    """Three of four tokens by spans of two; the shares are those of all orders, worked out by hand."""
    masking, rng = new_masking(probability=0.5, span_probability=1.0, longest_span=2), np.random.default_rng(0)
    found = {}
    for _ in range(4000):
        positions = tuple(masking(text_of(6), rng).positions.tolist())
        found[positions] = found.get(positions, 0) + 1
    shares = {(1, 2, 3): 19 / 96, (1, 2, 4): 27 / 96, (1, 3, 4): 7 / 96, (2, 3, 4): 43 / 96}
    assert found.keys() == shares.keys()
    for positions, share in shares.items():
        assert abs(found[positions] / 4000 - share) < 3 * math.sqrt(share * (1 - share) / 4000), positions
