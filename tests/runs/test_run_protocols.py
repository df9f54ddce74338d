"""Protocols: the trainings of a run, what each follows, and what it is scored on."""

from mlvl_fairseq.runs import protocols
from mlvl_fairseq.runs.protocols import PROTOCOLS, Cell, Step, register_protocol

LANGUAGES = ["en", "de", "fr"]


def test_sequence():
    assert PROTOCOLS["sequence"].steps(LANGUAGES) == [
        Step("00-en", ["en"], [], None, ["en"]),
        Step("01-de", ["de"], ["en"], 0, ["en", "de"]),
        Step("02-fr", ["fr"], ["en", "de"], 1, ["en", "de", "fr"]),
    ]


def test_a_longer_order_leaves_the_steps_of_the_shorter_one_alone():
    assert PROTOCOLS["sequence"].steps(LANGUAGES)[:2] == PROTOCOLS["sequence"].steps(LANGUAGES[:2])


def test_joint():
    assert PROTOCOLS["joint"].steps(LANGUAGES) == [Step("00-joint", LANGUAGES, [], None, LANGUAGES)]


def test_single():
    assert PROTOCOLS["single"].steps(LANGUAGES) == [
        Step("00-en", ["en"], [], None, ["en"]),
        Step("01-de", ["de"], [], None, ["de"]),
        Step("02-fr", ["fr"], [], None, ["fr"]),
    ]


def test_every_score_has_a_place_in_the_matrix():
    cells = {name: list(protocol.cells(["en", "de"])) for name, protocol in PROTOCOLS.items()}
    assert cells["sequence"] == [Cell("00-en", 0, 0), Cell("01-de", 1, 0), Cell("01-de", 1, 1)]
    assert cells["joint"] == [Cell("00-joint", 1, 0), Cell("00-joint", 1, 1)]
    assert cells["single"] == [Cell("00-en", 1, 0), Cell("01-de", 1, 1)]


def test_order_matters_where_trainings_follow_each_other():
    for protocol in PROTOCOLS.values():
        follows = any(step.follows is not None for step in protocol.steps(LANGUAGES))
        assert protocol.in_order == follows


def test_titles_are_what_follows_the_number():
    assert [step.title for step in PROTOCOLS["sequence"].steps(["en", "zh-hant"])] == ["en", "zh-hant"]
    assert PROTOCOLS["joint"].steps(LANGUAGES)[0].title == "joint"


def test_steps_are_numbered_so_that_folders_sort_in_order():
    names = [step.name for step in PROTOCOLS["sequence"].steps([f"l{i}" for i in range(36)])]
    assert names == sorted(names) and names[35] == "35-l35"


def test_a_new_protocol_is_one_function(monkeypatch):
    sequence = PROTOCOLS["sequence"]
    monkeypatch.setattr(protocols, "PROTOCOLS", {})

    @register_protocol("backwards", "the last language first", in_order=True)
    def backwards(languages):
        return sequence.steps(languages[::-1])

    assert [step.title for step in protocols.PROTOCOLS["backwards"].steps(LANGUAGES)] == ["fr", "de", "en"]
