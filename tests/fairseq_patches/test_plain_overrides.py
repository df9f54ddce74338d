"""Options that are plain are read as Hydra's own parser reads them, without it."""

import pytest
from hydra.core.override_parser import overrides_parser

import mlvl_fairseq  # noqa: F401

PARSER = overrides_parser.OverridesParser.create()
STOCK = overrides_parser.OverridesParser.parse_rule.__wrapped__
PLAIN = [
    *("task=cll_retrieval", "a.b_c.D2=null", "a.b=True", "a.b=False", "a.b=nullable", "a.b=inf2", "a.b=trueish"),
    *("a.b=0", "a.b=-12", "a.b=9223372036854775807", "a.b=0.0001", "a.b=-1.0", "a.b=1e-06", "a.b=2.5e+20", "a.b=1e5"),
    *("a.b=''", "a.b='inf'", "a.b='(0.9, 0.999)'", "a.b='${a.c} \"ü\"\n=x'", "a.b='12'", "_a=x"),
]
OTHERS = [
    *("a.b=inf", "a.b=nan", "a.b=null\n", "a.b=007", "a.b=1_000", "a.b=.5", "a.b=TRUE", "a.b=a-b", "a.b=a b", "a.b="),
    *(r"a.b='it\'s'", r"a.b='x\\'", 'a.b="x"', "a.b=[0.1,2]", "a.b=(1, 2)", "a.b={c:1}", "a.b=1,2", "a.b=int(3)"),
    *("+a.b=1", "++a.b=1", "~a.b", "a@b=c", "a/b=c", "a.b=${c}", "a.b=x\\", "a.b='x'y'", "a.b='x'y", "a.b", "=1"),
]


def outcome(parse, text):
    try:
        return repr(parse(PARSER, text, "override"))
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize("text", [*PLAIN, *OTHERS])
def test_they_mean_the_same(text):
    assert outcome(overrides_parser.OverridesParser.parse_rule, text) == outcome(STOCK, text)


@pytest.mark.parametrize("text", PLAIN)
def test_the_grammar_is_not_asked(text, monkeypatch):
    monkeypatch.setattr(overrides_parser, "OverrideLexer", None)
    assert PARSER.parse_override(text).input_line == text
