"""The published fine-tuning as examples/cclm has it, on small files of all data sets: trained, then asked in every
language of the tests."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from processes import updates_of
from published_files import write_published_files

from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file
from mlvl_fairseq.errors import UserError

TINY = "--arch cclm_tiny --image-size 32 --image-window 1 --batch-size 8 --max-update 2 --num-workers 0 --cpu".split()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_published_files(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def pretrained(succeed, streams, user_dir, tmp_path_factory):
    """A checkpoint of pre-training after an update."""
    folder = tmp_path_factory.mktemp("pretrained")
    own = ["--user-dir", user_dir, "--task", "cclm_pretraining", "--criterion", "cclm_pretraining", *TINY]
    files = ["--image-text", streams / "images.jsonl", "--tokenizer-folder", streams / "pieces"]
    own += ["--optimizer", "grouped_adamw", "--lr", "1e-3", "--no-epoch-checkpoints", "--disable-validation"]
    succeed("fairseq-train", *own, *files, "--max-update", 1, "--save-dir", folder)
    return folder / "checkpoint_last.pt"


@pytest.fixture(scope="module")
def published(published_program, succeed, data, streams):
    """``published(out, task, *flags)``: the commands, which run in this process."""

    class Here(published_program.Shell):
        def __init__(self):
            self.commands = []

        def run(self, command, *words, environment=None):
            self.commands.append([command, *map(str, words)])
            succeed(command, *words)

        def output(self, *words):
            return succeed(*words)

    def once(out, task, *flags, options=TINY, **others):
        one, shell = published_program.task_named(task), Here()
        call = one.read([*arguments(one, data, streams, **others), *words_of(flags, out), "--", *options])
        one.run(replace(call, small=True), shell)
        return shell.commands

    return once


def arguments(task, data, streams, **others):
    places = {"IGLUE": "iglue", "NLVR2": "nlvr", "IMAGES": "images", "DATA": "coco"}
    given = {**{name: data / place for name, place in places.items()}, "XLMR": streams / "pieces", **others}
    return [str(given[name]) for name in task.arguments]


def words_of(flags, out):
    return [*map(str, flags), "--output_dir", str(out)]


def scores(folder, languages):
    """Language -> its scores; there are those of these languages."""
    found = {path.name.partition(".")[0]: json.loads(path.read_text()) for path in folder.glob("*.test.json")}
    assert sorted(found) == sorted(languages.split())
    return found


@pytest.fixture(scope="module")
def xvnli(published, pretrained, tmp_path_factory):
    """The folder of a model fine-tuned in English."""
    out = tmp_path_factory.mktemp("xvnli")
    published(out, "xvnli", "--task", "xvnli", "--seed", 7, "--checkpoint", pretrained)
    return out


def test_zero_shot(xvnli):
    """Trained on English out of its zip archive, chosen on its dev file, asked in all languages."""
    best = load_checkpoint_file(xvnli / "checkpoint_best.pt")
    assert best["task_state"]["classes"] == ["contradiction", "entailment", "neutral"]
    assert best["cfg"]["common"]["seed"] == 7 and best["cfg"]["task"]["examples"].endswith("en/train.jsonl.zip")
    right = 4 * best["extra_state"]["val_loss"] / 100  # of five lines of dev.jsonl one is labelled -
    assert right == pytest.approx(round(right), abs=1e-3)
    for lang, score in scores(xvnli / "scores", "ar en es fr ru").items():
        rows = list(csv.reader((xvnli / "scores" / f"{lang}.test.said.csv").open()))
        assert len(rows) == 6 and sum(row[2] == "-" for row in rows) == 1
        assert score["accuracy"] == pytest.approx(20 * sum(row[-1] == "1" for row in rows))


def test_few_shot_of_fewer_examples_than_a_batch(published, pretrained, xvnli, tmp_path):
    """Four examples, an update each epoch; nothing chooses an epoch, the last one is asked in its language."""
    flags = ["--fewshot", "ar,48", "--lr", "1e-6", "--bs", 16, "--checkpoint", xvnli / "checkpoint_best.pt"]
    *_, (_, *asked) = published(tmp_path, "xvnli", *flags, options=[*TINY, "--batch-size", 16])
    assert asked[asked.index("--checkpoint") + 1] == str(tmp_path / "checkpoint_last.pt")
    last = load_checkpoint_file(tmp_path / "checkpoint_last.pt")
    assert last["extra_state"]["train_iterator"]["epoch"] == updates_of(tmp_path / "checkpoint_last.pt") + 1 == 3
    assert last["cfg"]["optimization"]["lr"] == [1e-6] and not (tmp_path / "checkpoint_best.pt").exists()
    assert last["cfg"]["model"]["init_from"] == str(xvnli / "checkpoint_best.pt")
    assert list(scores(tmp_path / "scores", "ar"))
    with pytest.raises(UserError, match=f"{tmp_path} holds another training, with other content of --checkpoint"):
        published(tmp_path, "xvnli", *flags[:-1], pretrained, options=[*TINY, "--batch-size", 16])


def test_translate_test_by_the_script(root, data, streams, xvnli, tmp_path):
    """The script itself, which trains nothing."""
    folder = Path(sys.executable).parent
    program = [root / "examples" / "cclm" / "xvnli.sh", data / "iglue", data / "images", streams / "pieces"]
    flags = words_of(["--evaluate", "--gmt", "--checkpoint", xvnli / "checkpoint_best.pt"], tmp_path / "a" / "b")
    environment = {**os.environ, "RECIPE": "small", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    environment["PATH"] = f"{folder}:{environment['PATH']}"
    ended = subprocess.run(["bash", *program, *flags, "--", "--cpu"], capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr[-3000:]
    found = scores(tmp_path / "a" / "b" / "scores_gmt", "ar es fr ru")
    assert all("text:mt-en" in score["signature"] for score in found.values())
    assert "average" in ended.stdout and ended.stderr.count("+ mlvl-evaluate nli --checkpoint") == 1


def test_questions(published, pretrained, tmp_path):
    """Few-shot, chosen on the language's own dev file; the answers are those of GQA."""
    train, _ = published(tmp_path, "gqa", "--fewshot", "de", "--checkpoint", pretrained)
    task = load_checkpoint_file(tmp_path / "checkpoint_best.pt")
    assert task["task_state"]["answers"] == ["red", "blue", "green"]
    assert task["cfg"]["task"]["examples"].endswith("few_shot/de/train_48.json")
    assert task["cfg"]["task"]["valid_examples"].endswith("few_shot/de/dev.json")
    assert "answers:3" in scores(tmp_path / "scores", "de")["de"]["signature"]


def test_which_image_and_then_statements(published, pretrained, streams, tmp_path):
    first, second, _ = published(
        tmp_path, "nlvr_domain", "--checkpoint", pretrained, IMAGE_TEXT=streams / "images.jsonl"
    )
    assert "cclm_which_image" in first and second[second.index("--init-from") + 1].endswith("domain/checkpoint_last.pt")
    assert updates_of(tmp_path / "domain" / "checkpoint_last.pt") == 2
    found = scores(tmp_path / "scores", "en id sw ta tr zh")
    # NLVR2's test file, which stands for English, has six statements, those of MaRVL four
    assert [lang for lang, score in found.items() if "examples:6" in score["signature"]] == ["en"]


def test_captions_of_coco(published, pretrained, tmp_path):
    """Whose files are not called the same in every language."""
    config = ["--config", "configs/cclm-base-ft/Retrieval_coco_all_ft.yaml"]
    published(tmp_path, "itr_coco", *config, "--checkpoint", pretrained)
    corpus = json.loads((tmp_path / "corpus" / "corpus.json").read_text())
    assert corpus["splits"]["valid"]["captions"] == {"en": 20, "zh": 20, "ja": 20}
    assert load_checkpoint_file(tmp_path / "checkpoint_best.pt")["cfg"]["task"]["langs"] == "en,zh,ja"
    assert all("images:10" in score["signature"] for score in scores(tmp_path / "scores", "en zh ja").values())


def test_captions_of_flickr_few_shot(published, pretrained, tmp_path):
    """Two captions of two images."""
    published(tmp_path, "xflickrco", "--fewshot", "de,100", "--checkpoint", pretrained)
    last = load_checkpoint_file(tmp_path / "checkpoint_last.pt")
    assert last["cfg"]["task"]["langs"] == "de"
    assert updates_of(tmp_path / "checkpoint_last.pt") == 2
    assert "images:2" in scores(tmp_path / "scores", "de")["de"]["signature"]


def test_pictures_of_wikipedia(published, pretrained, tmp_path):
    """Joined with the lists, once."""
    commands = [command[0] for command in published(tmp_path, "wit", "--checkpoint", pretrained)]
    assert commands == ["mlvl-convert"] * 3 + ["mlvl-prepare", "fairseq-train", "mlvl-evaluate"]
    corpus = json.loads((tmp_path / "corpus" / "corpus.json").read_text())
    assert corpus["splits"]["train"]["captions"] == {"en": 2}  # the third has no picture
    scores(tmp_path / "scores", "ar bg da el en et id ja ko tr vi")
    again = published(tmp_path, "wit", "--evaluate", "--checkpoint", tmp_path / "checkpoint_best.pt", options=["--cpu"])
    assert [command[0] for command in again] == ["mlvl-evaluate"]
