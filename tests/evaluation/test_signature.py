"""Signatures: what they print, that they notice changes, how several become one."""

from dataclasses import fields

import pytest

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.evaluators import EVALUATORS
from mlvl_fairseq.evaluation.signature import (
    Signature,
    common_signature,
    data_fingerprint,
    differing_keys,
    format_signature,
    parse_signature,
)


def signature(**changes):
    values = dict(data="ab12", split="test", lang="de", images=5, texts=25, tok="clip-bpe", maxlen=77, precision="fp32")
    values["own"] = {"folds": 1, "captions": "any", "ties": "index"}
    return Signature(**{**values, **changes}, version="1.2")


def test_printed_form():
    assert str(signature()) == (
        "data:ab12|split:test|lang:de|images:5|texts:25|tok:clip-bpe|maxlen:77|precision:fp32|folds:1|captions:any"
        "|ties:index|version:1.2"
    )


def test_an_evaluator_adds_its_own_keys_before_the_version_and_leaves_out_what_it_has_not():
    text = str(signature(own={"metric": "accuracy", "templates": 7}, texts=None))
    assert text == (
        "data:ab12|split:test|lang:de|images:5|tok:clip-bpe|maxlen:77|precision:fp32|metric:accuracy|templates:7"
        "|version:1.2"
    )
    with pytest.raises(UserError, match="every score has a key lang"):
        signature(own={"lang": "de"})


def test_every_key_is_explained():
    assert all(len(entry.metadata["help"]) > 10 for entry in fields(Signature))
    for evaluator in EVALUATORS.values():
        assert all(len(about) > 10 for about in evaluator.keys.values())


def test_parse_is_the_inverse_and_keeps_colons_and_unknown_keys():
    text = str(signature(tok="bpe:49408")) + "|new:1"
    assert parse_signature(text)["tok"] == "bpe:49408" and parse_signature(text)["new"] == "1"
    assert format_signature(parse_signature(text)) == text
    assert parse_signature("") == {}
    with pytest.raises(UserError, match="'test' in"):
        parse_signature("data:1|test")


@pytest.mark.parametrize("value", ["a|b", "a\nb", ""])
def test_values_that_would_break_the_form(value):
    with pytest.raises(UserError, match="split may not be"):
        signature(split=value)


def test_several_signatures():
    signatures = [str(signature()), str(signature(lang="fr", data="cd34")), "lang:de|extra:1"]
    assert common_signature(signatures[:2]).startswith("data:*|split:test|lang:*|images:5|")
    assert differing_keys(signatures[:2]) == {"data": ["ab12", "cd34"], "lang": ["de", "fr"]}
    assert differing_keys(signatures)["extra"] == ["", "1"]
    assert common_signature([]) == "" and differing_keys([]) == {}


def test_fingerprint_changes_with_anything():
    base = (["a.jpg", "b.jpg"], ["Hund", "Katze", "ü"], [0, 0, 1])
    others = [
        (["b.jpg", "a.jpg"], base[1], base[2]),
        (base[0], ["Katze", "Hund", "ü"], base[2]),
        (base[0], base[1], [0, 1, 1]),
        (base[0], ["Hund", "Katze", "u"], base[2]),
        (["a.jpgb.jpg", ""], base[1], base[2]),
        ([*base[0], "c.jpg"], base[1], base[2]),
    ]
    assert len({data_fingerprint(*data) for data in (base, *others)}) == 7
    assert data_fingerprint(*base) == data_fingerprint(*base) and len(data_fingerprint(*base)) == 12
    with pytest.raises(ValueError):
        data_fingerprint(base[0], base[1], [0])
