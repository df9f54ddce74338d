"""What is done to captions before they are cut: LilT's own cases."""

import json

import pytest
from golden import FIXTURES

from mlvl_fairseq.data.text.cleaning import cleaning, register_cleaning
from mlvl_fairseq.errors import UserError

CASES = json.loads((FIXTURES / "lilt" / "text.json").read_text(encoding="utf-8"))["pre_caption_30"]


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_golden(case):
    assert cleaning("lilt")(case["inp"]) == case["out"]


def test_none_is_nothing():
    assert len(CASES) == 13
    assert all(cleaning("none")(case["inp"]) == case["inp"] for case in CASES)


def test_names():
    with pytest.raises(UserError, match="--cleaning clip: there are cclm, cclm_question, lilt, none"):
        cleaning("clip")
    with pytest.raises(ValueError, match="'lilt' is registered already"):
        register_cleaning("lilt")(str)
