"""mlvl-list shows what the registries hold."""

import json

import pytest

from mlvl_fairseq.checkpoints.source import weight_formats
from mlvl_fairseq.cli import list as command
from mlvl_fairseq.configs import list_configs
from mlvl_fairseq.continual.methods import list_methods
from mlvl_fairseq.data.captions.reading import readers
from mlvl_fairseq.data.classification import DATA_SETS
from mlvl_fairseq.data.examples import example_readers
from mlvl_fairseq.docstrings import summary
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.evaluators import EVALUATORS
from mlvl_fairseq.export import known_exports
from mlvl_fairseq.networks import NETWORKS
from mlvl_fairseq.networks.presets import list_presets


@pytest.fixture(scope="module")
def listed():
    """Everything, as JSON."""
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr("builtins.print", printed.append)
        command.main(["--json"])
    return json.loads(printed[0])


def test_every_name_of_every_registry_is_there(listed):
    assert listed["evaluators"].keys() == EVALUATORS.keys()
    assert listed["datasets"].keys() == DATA_SETS.keys()
    assert listed["methods"] == list_methods()
    assert listed["presets"] == {"--preset": list_presets(), "--config": list_configs()}
    assert NETWORKS.keys() <= listed["models"].keys() and listed["models"]["trikd_tiny"].startswith("trikd with ")
    weights, captions, examples, exports = listed["formats"].values()
    assert weights == {one.description: one.family for one in weight_formats()}
    assert (captions.keys(), examples.keys()) == (readers().keys(), example_readers().keys())
    assert exports == {one.name: one.help for one in known_exports()} and "open-clip" in exports


def test_every_name_says_what_it_is(listed):
    def texts(names):
        return [text for value in names.values() for text in (texts(value) if isinstance(value, dict) else [value])]

    found = texts(listed)
    assert len(found) > 150
    assert not [text for text in found if not text or "``" in text or ":class:" in text or "\n" in text]


def test_one_list_as_text(monkeypatch, capsys):
    class Newcomer:
        """How fast ``it`` is, see :class:`a.b.Speed`. Not shown.

        Nor this.
        """

    monkeypatch.setitem(EVALUATORS, "speed", Newcomer)
    command.main(["evaluators", "presets"])
    first, second = capsys.readouterr().out.split("\n\n")
    lines = first.splitlines()
    assert lines[0] == "evaluators: what a model can be scored on (mlvl-evaluate NAME)"
    assert f"  {'speed':14}  How fast it is, see Speed" in lines and len(lines) == 1 + len(EVALUATORS)
    assert second.splitlines()[1] == "  --preset" and "    lit " in second


def test_an_unknown_list_is_told_all_names():
    with pytest.raises(UserError, match="no list 'model'; there are: models, presets, .*, formats"):
        command.main(["models", "model"])


@pytest.mark.parametrize(
    "text, expected",
    [
        ("One. Two.", "One"),
        ("As X et al. (2022) say: it\n    goes on. More", "As X et al. (2022) say: it goes on"),
        ("At a.b/\n    c. More", "At a.b/c"),
        ("A list:\n\nof things", "A list"),
        (None, ""),
    ],
)
def test_summaries(text, expected):
    assert summary(type("Thing", (), {"__doc__": text})) == expected
