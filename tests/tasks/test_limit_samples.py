"""``--limit-samples`` keeps the first captions of all languages, one after the other."""

import numpy as np
import pytest

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.tasks._limit import LimitsSamples

USABLE = {"en": np.array([0, 2, 3, 4, 7]), "de": np.array([1, 2, 6]), "fr": np.array([5])}


class AnyTask:
    """What the mixin finds in front of itself."""

    def __init__(self, limit):
        self.cfg = type("Options", (), {"limit_samples": limit})
        self.trained_languages, self._told = list(USABLE), set()

    def usable(self, split, lang):
        return USABLE[lang]


class LimitedTask(LimitsSamples, AnyTask):
    pass


@pytest.mark.parametrize(
    "limit, kept", [(0, "5 3 1"), (9, "5 3 1"), (100, "5 3 1"), (8, "5 3 -"), (6, "5 1 -"), (2, "2 - -")]
)
def test_the_first_captions_of_all_languages(limit, kept):
    task = LimitedTask(limit)
    for (lang, usable), number in zip(USABLE.items(), kept.split()):
        if number == "-":
            with pytest.raises(
                UserError, match=f"--limit-samples {limit} leaves no caption in '{lang}': before it there"
            ):
                task.usable("train", lang)
        else:
            assert task.usable("train", lang).tolist() == usable[: int(number)].tolist()


def test_other_splits_keep_all():
    assert LimitedTask(2).usable("valid", "de") is USABLE["de"]


def test_how_many_is_told_once(caplog):
    task = LimitedTask(7)
    with caplog.at_level("INFO", "mlvl_fairseq"):
        for lang in ("en", "de", "en"):
            task.usable("train", lang)
    assert caplog.messages == [
        "train: 5 of 5 captions in en (--limit-samples 7)",
        "train: 2 of 3 captions in de (--limit-samples 7)",
    ]


def test_no_number_of_captions():
    with pytest.raises(UserError, match="--limit-samples -1 is not a number of at least 0"):
        LimitedTask(-1).usable("train", "en")
