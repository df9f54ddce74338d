"""The published fine-tuning as examples/cclm has it, on small files of all data sets: trained, then asked in every
language of the tests."""

import contextlib
import json
import sys

import pytest
from published_files import write_published_files

from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file

TINY = "--arch cclm_tiny --image-size 32 --image-window 1 --cpu --num-workers 0 --max-update 2".split()


@pytest.fixture(scope="module")
def program(root):
    """``run.py`` of examples/cclm."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root / "examples" / "cclm"))
        import run as program

        yield program
        for name in [name for name in sys.modules if name == "run" or name.partition(".")[0] == "published"]:
            del sys.modules[name]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_published_files(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def pretrained(succeed, streams, user_dir, tmp_path_factory):
    """A checkpoint of pre-training after an update."""
    folder = tmp_path_factory.mktemp("pretrained")
    own = ["--user-dir", user_dir, "--task", "cclm_pretraining", "--criterion", "cclm_pretraining", *TINY]
    own += ["--optimizer", "grouped_adamw", "--lr", "1e-3", "--batch-size", 8, "--no-epoch-checkpoints"]
    files = ["--image-text", streams / "images.jsonl", "--tokenizer-folder", streams / "pieces"]
    succeed("fairseq-train", *own, *files, "--disable-validation", "--max-update", 1, "--save-dir", folder)
    return folder / "checkpoint_last.pt"


@pytest.fixture
def published(program, succeed, monkeypatch, data, streams, tmp_path):
    """``published(task, flags)``: what is run, each command with its words; in this process."""

    class Here(program.Shell):
        def __init__(self):
            self.commands = []

        def run(self, command, *words, environment=None):
            self.commands.append([command, *map(str, words)])
            succeed(command, *words)

        def output(self, *words):
            return succeed(*words)

    monkeypatch.setenv("RECIPE", "small")
    places = {"IGLUE": "iglue", "NLVR2": "nlvr", "IMAGES": "images", "DATA": "multi30k"}

    def once(task, *flags, options=TINY, reference=False, **others):
        one, shell = program.task_named(task), Here()
        given = {**{name: data / place for name, place in places.items()}, "XLMR": streams / "pieces", **others}
        words = [str(given[name]) for name in one.arguments]
        call = one.read([*words, *map(str, flags), "--output_dir", str(tmp_path / "out"), "--", *options])
        one.run(program.replace(call, small=True, reference=reference), shell)
        return shell.commands

    return once


def scores(folder, languages, split="test"):
    found = sorted(path.name.partition(".")[0] for path in folder.glob(f"*.{split}.json"))
    assert found == sorted(languages.split()), found
    return {lang: json.loads((folder / f"{lang}.{split}.json").read_text()) for lang in found}


def test_x(published, pretrained, tmp_path):
    out = tmp_path / "out"
    print(published("xvnli", "--checkpoint", pretrained))
    scores(out / "scores", "ar en es fr ru")
