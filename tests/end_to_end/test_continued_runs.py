"""What may be another when a run goes on: where things lie, what is told, what it is scored on. And what may not."""

import json
import os
import shutil
from itertools import product

import pytest
from processes import updates_of


@pytest.fixture(scope="module")
def finished(learn, tmp_path_factory):
    return learn(tmp_path_factory.mktemp("finished") / "run", "cll_clip", "en,de")


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of a finished run, which is thereby moved and renamed."""
    return shutil.copytree(finished, tmp_path / "renamed")


@pytest.fixture
def unfinished(folder):
    """The same before its second language."""
    for part in ("01-de", "scores/01-de"):
        shutil.rmtree(folder / part)
    return folder


@pytest.fixture
def go_on(run, corpus, sequence_options):
    """``go_on(folder, option..., corpus=...)``: how mlvl-cll ended."""

    def command(folder, *more, corpus=corpus, order="en,de"):
        return run("mlvl-cll", corpus, folder, "--method", "cll_clip", "--order", order, *sequence_options, *more)

    return command


def checkpoints(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.glob("*/checkpoint_*.pt")}


def test_everything_moves_between_two_languages(go_on, finished, corpus, teacher, tmp_path, read_json):
    """Run, corpus and weights lie elsewhere; the end is the same to the byte."""
    weights = shutil.copy(teacher, tmp_path / "weights.pt")
    assert go_on(tmp_path / "run", "--init-from", weights, order="en").status == 0
    weights, run = weights.rename(tmp_path / "moved.pt"), (tmp_path / "run").rename(tmp_path / "renamed")
    elsewhere = shutil.copytree(corpus, tmp_path / "corpus")
    assert go_on(run, "--init-from", weights, corpus=elsewhere).status == 0
    for part in ("scores/01-de/de.test.json", "scores/01-de/en.test.json"):
        assert (run / part).read_bytes() == (finished / part).read_bytes()
    manifest = read_json(run / "run.json")
    assert manifest["corpus"] == str(elsewhere) and manifest["init_from"] == str(weights)


@pytest.mark.parametrize("spelling", ["{folder}/../{name}/{file}", "{folder}/link.pt"])
def test_the_same_weights_by_another_name(go_on, folder, teacher, tmp_path, spelling):
    here = shutil.copytree(teacher.parent, tmp_path / "teacher")
    assert go_on(folder, "--init-from", here / teacher.name).status == 0
    (here / "link.pt").symlink_to(here / teacher.name)
    path = spelling.format(folder=here, name=here.name, file=teacher.name)
    before = checkpoints(folder)
    assert go_on(folder, "--init-from", path).status == 0 and checkpoints(folder) == before


def test_other_weights_are_refused(go_on, unfinished, english, teacher):
    other = english("cll_clip_with_teir")
    assert (
        f"--init-from {other} holds other weights than {teacher} did" in go_on(unfinished, "--init-from", other).error
    )


def test_weights_that_were_replaced_where_they_lay_are_refused(go_on, learn, unfinished, teacher, english, tmp_path):
    path = shutil.copy(teacher, tmp_path / "weights.pt")
    assert go_on(unfinished, "--init-from", path).status == 0
    shutil.rmtree(unfinished / "01-de")
    shutil.copy(english("cll_clip_with_teir"), path)
    assert f"--init-from {path} holds other weights" in go_on(unfinished, "--init-from", path).error


def test_an_earlier_version_s_run_whose_weights_are_gone(go_on, unfinished, teacher, tmp_path, read_json):
    """Nothing is recorded of them but their place; its checkpoints know what they were trained on."""
    manifest = (unfinished / "run.json").read_text().replace(str(teacher), str(tmp_path / "gone.pt"))
    lines = [line for line in manifest.splitlines() if "init_from_fingerprint" not in line]
    (unfinished / "run.json").write_text("\n".join(lines))
    assert go_on(unfinished).status == 0


@pytest.mark.parametrize("options", [
    ["--log-format", "simple", "--log-interval", 1, "--no-progress-bar", "--wandb-project", "one"],
    ["--num-workers", 1, "--data-buffer-size", 3, "--keep-best-checkpoints", 2, "--distributed-port", 9],
])  # fmt: skip
def test_options_that_only_tell_freeze_nothing(go_on, folder, options, read_json):
    before, manifest = checkpoints(folder), read_json(folder / "run.json")
    assert go_on(folder, *options).status == 0
    assert checkpoints(folder) == before and read_json(folder / "run.json") == manifest


@pytest.mark.parametrize("options, named", [
    (["--clip-norm", 2], "--clip-norm is 1.0 there, 2.0 here"),
    (["--update-freq", 2, "--log-interval", 1], "--update-freq is 1 there, 2 here"),
    (["--regularize", "grad"], "--regularize is none there, grad here"),
    (["--batch-size", 8], "--batch-size is 16 there, 8 here"),
])  # fmt: skip
def test_options_that_decide_what_is_learned_are_named(go_on, folder, options, named):
    error = go_on(folder, *options).error
    assert error == f"{folder} holds another run ({named}): choose another folder"


def test_a_finished_run_on_another_split(go_on, succeed, folder, read_json):
    """One command scores it, without training, and a report shows either split."""
    before = checkpoints(folder)
    assert go_on(folder, "--eval-split", "valid").status == 0
    rows = {"00-en": ["en"], "01-de": ["en", "de"]}
    for row, languages in rows.items():
        for lang in languages:
            assert "split:valid" in read_json(folder / "scores" / row / f"{lang}.valid.json")["signature"]
            assert (folder / "scores" / row / f"{lang}.valid.ranks.npz").exists()
    assert checkpoints(folder) == before and read_json(folder / "run.json")["eval_split"] == "test"
    for split in ("valid", "test"):
        printed = succeed("mlvl-report", folder, "--split", split, "--format", "json")
        assert "n/a" not in printed and read_json(folder / "report.json")["methods"]["cll_clip"]


def test_curves_of_languages_go_on(go_on, unfinished, monkeypatch, tmp_path):
    """A folder a language; steps are counted from the first language on."""

    class Writer:
        def __init__(self, folder):
            self.file = open(tmp_path / "steps.txt", "a")
            self.folder = os.path.relpath(folder, tmp_path)

        def add_text(self, *args):
            """Not looked at."""

        def flush(self):
            """Nothing is held back."""

        def add_scalar(self, name, value, step):
            if name == "loss":
                print(self.folder, step, file=self.file, flush=True)

    monkeypatch.setattr("fairseq.logging.progress_bar.SummaryWriter", Writer)
    options = ["--tensorboard-logdir", tmp_path / "logs", "--log-interval", 3]
    assert go_on(unfinished, *options).status == 0
    steps = (tmp_path / "steps.txt").read_text().splitlines()
    assert [line for line in steps if "valid" in line] == ["logs/01-de/valid 14"]
    assert [line for line in steps if "train_inner" in line] == [f"logs/01-de/train_inner {step}" for step in (10, 13)]


def test_features_of_another_teacher_are_refused(
    go_on, unfinished, corpus, own_corpus, other_features, tmp_path, read_json
):
    """Finished languages count, too; the same features in another place do not, nor does a language that is added."""
    for split, kind in product(("train", "valid", "test"), ("image", "text")):
        other_features(split, kind, dim=32)
    refused = "the teacher's features of the captions in en, de are others than they were"
    assert f"{unfinished} holds another run ({refused}): choose another" in go_on(unfinished, corpus=own_corpus).error
    assert go_on(unfinished, corpus=shutil.copytree(corpus, tmp_path / "same")).status == 0
    assert refused in go_on(unfinished, corpus=own_corpus).error
    assert go_on(unfinished, order="en,de,ru").status == 0
    manifest = read_json(unfinished / "run.json")
    assert set(manifest["teacher_fingerprint"]) == {"en", "de", "ru"}
    manifest["teacher_fingerprint"] = None  # as an earlier version left it: nobody knows
    (unfinished / "run.json").write_text(json.dumps(manifest))
    assert go_on(unfinished, corpus=own_corpus, order="en,de,ru").status == 0


def test_a_training_goes_on_from_the_weights_that_it_started_with(run, corpus, teacher, teacher_options, tmp_path):
    """fairseq-train, of which everything trains: nothing in its checkpoint depends on --init-from any more."""
    own, last = ["--save-dir", tmp_path / "run"], tmp_path / "run" / "checkpoint_last.pt"

    def train(weights, updates):
        return run("fairseq-train", corpus, *teacher_options, *own, "--init-from", weights, "--max-update", updates)

    assert train(teacher, 1).status == 0
    other, moved = (shutil.copy(path, tmp_path / name) for path, name in ((last, "other.pt"), (teacher, "moved.pt")))
    ended = train(other, 2)
    told = f"started with --init-from {teacher}, and --init-from {other} holds other weights"
    assert ended.status == 2 and told in ended.error and updates_of(last) == 1
    assert train(moved, 2).status == 0 and updates_of(last) == 2
