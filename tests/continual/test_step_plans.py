"""Protocols: the trainings of a run, what each follows, and what it is scored on."""

from mlvl_fairseq.continual import protocols
from mlvl_fairseq.continual.protocols import PROTOCOLS, Step, register_protocol
from mlvl_fairseq.evaluation.report import protocols as report_protocols

LANGUAGES = ["en", "de", "fr"]


def test_sequence():
    assert PROTOCOLS["sequence"](LANGUAGES) == [
        Step("00-en", ["en"], [], None, ["en"]),
        Step("01-de", ["de"], ["en"], 0, ["en", "de"]),
        Step("02-fr", ["fr"], ["en", "de"], 1, ["en", "de", "fr"]),
    ]


def test_a_longer_order_leaves_the_steps_of_the_shorter_one_alone():
    assert PROTOCOLS["sequence"](LANGUAGES)[:2] == PROTOCOLS["sequence"](LANGUAGES[:2])


def test_joint():
    assert PROTOCOLS["joint"](LANGUAGES) == [Step("00-joint", LANGUAGES, [], None, LANGUAGES)]


def test_single():
    assert PROTOCOLS["single"](LANGUAGES) == [
        Step("00-en", ["en"], [], None, ["en"]),
        Step("01-de", ["de"], [], None, ["de"]),
        Step("02-fr", ["fr"], [], None, ["fr"]),
    ]


def test_reports_expect_the_scores_that_runs_have():
    """`evaluation` imports nothing of `continual`: it has a table of its own."""
    assert PROTOCOLS.keys() == report_protocols.PROTOCOLS.keys()
    for name, plan in PROTOCOLS.items():
        steps, protocol = plan(LANGUAGES), report_protocols.PROTOCOLS[name]
        expected = [(cell.step, LANGUAGES[cell.column]) for cell in protocol.cells(LANGUAGES)]
        assert [(step.name, lang) for step in steps for lang in step.evaluated] == expected
        assert {step.name: len(step.current) for step in steps} == protocol.steps(LANGUAGES)
        assert protocol.in_order == any(step.follows is not None for step in steps)


def test_titles_are_what_follows_the_number():
    assert [step.title for step in PROTOCOLS["sequence"](["en", "zh-hant"])] == ["en", "zh-hant"]
    assert PROTOCOLS["joint"](LANGUAGES)[0].title == "joint"


def test_steps_are_numbered_so_that_folders_sort_in_order():
    names = [step.name for step in PROTOCOLS["sequence"]([f"l{i}" for i in range(36)])]
    assert names == sorted(names) and names[35] == "35-l35"


def test_a_new_protocol_is_one_function(monkeypatch):
    monkeypatch.setattr(protocols, "PROTOCOLS", {})

    @register_protocol
    def backwards(languages):
        return PROTOCOLS["sequence"](languages[::-1])

    assert protocols.PROTOCOLS == {"backwards": backwards}
    assert [step.title for step in backwards(LANGUAGES)] == ["fr", "de", "en"]
