"""Frozen files are options of every command that loads a model, as the families of networks name them."""

from types import SimpleNamespace

import pytest

from mlvl_fairseq.cli import analyse, common, evaluate, fuse, prepare
from mlvl_fairseq.inference import encoder

FILES = {"init_from": "of a CLIP: the weights", "word_list": "of a new family: its words"}


@pytest.fixture
def families(monkeypatch):
    """Two kinds of frozen files; a model remembers how it was loaded."""
    monkeypatch.setattr(encoder, "frozen_files", lambda: FILES)
    monkeypatch.setattr(encoder.Encoder, "load", lambda path, **options: SimpleNamespace(path=path, options=options))


def parsers_of(parser):
    nested = [action.choices.values() for action in parser._actions if isinstance(action.choices, dict)]
    return [inner for group in nested for inner in group] or [parser]


@pytest.mark.parametrize(
    "command, prefixes",
    [(evaluate, [""]), (fuse, ["", "english-"]), (prepare, ["teacher-"]), (analyse, [""])],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_commands_list_the_files_of_all_families(families, command, prefixes):
    for parser in parsers_of(command.build_parser()):
        helps = {name: action.help for action in parser._actions for name in action.option_strings}
        if "--device" not in helps:  # it runs no model
            continue
        for prefix in prefixes:
            assert helps[f"--{prefix}init-from"] == FILES["init_from"]
            assert helps[f"--{prefix}word-list"] == FILES["word_list"]


def test_a_model_is_loaded_with_the_files_that_are_given(families):
    arguments = ["--checkpoint", "x.pt", "--device", "cuda", "--word-list", "words", "--captions", "c", "--lang", "de"]
    model = common.load_encoder(evaluate.build_parser().parse_args(arguments))
    assert model.path == "x.pt"
    assert model.options == {"device": "cuda", "init_from": None, "word_list": "words"}
    args = fuse.build_parser().parse_args([*arguments, "--english-init-from", "clip.pt"])
    assert common.frozen_from(args, "english-") == {"init_from": "clip.pt", "word_list": None}


def test_families_that_there_are(capsys):
    """No list of ours: what the registered families declare."""
    found = encoder.frozen_files()
    assert {"init_from", "mte", "clip", "sentencepiece"} <= found.keys()
    assert all(len(about) > 10 for about in found.values())
