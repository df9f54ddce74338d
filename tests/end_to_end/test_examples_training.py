"""Fine-tuning on examples: fewer of them than a batch has rows, selection by accuracy, exact restarts, questions, given
grids, two ranks."""

import json

import numpy as np
import pytest
from processes import free_port, updates_of

from mlvl_fairseq.checkpoints.comparison import differing, largest_difference
from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file

MODEL = "--arch cclm_tiny --image-size 32 --image-window 1".split()
TRAINING = (
    "--optimizer grouped_adamw --lr 1e-3 --num-workers 0 --cpu --no-epoch-checkpoints --log-format json "
    "--best-checkpoint-metric accuracy --maximize-best-checkpoint-metric"
).split()


@pytest.fixture
def train(run, user_dir, streams, examples, tmp_path):
    """``train(folder, *arguments)``."""

    def once(folder, *arguments, model=MODEL):
        where = ["--user-dir", user_dir, "--tokenizer-folder", streams / "pieces", "--image-root", examples / "images"]
        return run("fairseq-train", *where, *model, *TRAINING, *arguments, "--save-dir", tmp_path / folder)

    return once


def test_fewer_examples_than_a_batch_has_rows(train, examples, tmp_path, caplog):
    """18 of 20, whatever --batch-size; the best checkpoint by accuracy; a restart goes on as if nothing had been."""
    file = examples / "xvnli.jsonl"
    task = ["--task", "image_text_classification", "--criterion", "image_classification", "--augment"]
    own = [*task, "--examples", file, "--valid-examples", file, "--batch-size", 128]
    ended = train("whole", *own, "--max-epoch", 2)
    assert ended.status == 0, ended.err[-3000:]
    assert "2 no gold label; 2 examples left out" in caplog.text
    whole = tmp_path / "whole" / "checkpoint_last.pt"
    assert updates_of(whole) == 2
    for epochs in (1, 2):
        assert train("parts", *own, "--max-epoch", epochs).status == 0
    assert not differing(whole, tmp_path / "parts" / "checkpoint_last.pt")
    best = load_checkpoint_file(tmp_path / "whole" / "checkpoint_best.pt")
    assert best["task_state"]["classes"] == ["contradiction", "entailment", "neutral"]
    right = 18 * best["extra_state"]["val_loss"] / 100
    assert right == pytest.approx(round(right), abs=1e-3)  # an accuracy of 18 examples


def test_questions_are_answered_from_a_list(train, examples, tmp_path, caplog):
    """Trained in the form of GQA's, validated in that of xGQA's; the decoder ranks all three answers."""
    task = ["--task", "visual_question_answering", "--criterion", "visual_question_answering"]
    files = ["--examples", examples / "gqa.json", "--valid-examples", examples / "xgqa.json"]
    caplog.set_level("INFO")
    ended = train("out", *task, *files, "--answer-list", examples / "answers.json", "--batch-size", 5, "--max-epoch", 1)
    assert ended.status == 0, ended.err[-3000:]
    logged = [json.loads(text) for text in caplog.messages if '"valid_accuracy"' in text]
    right = 12 * float(logged[0]["valid_accuracy"]) / 100
    assert right == pytest.approx(round(right), abs=1e-3)
    best = load_checkpoint_file(tmp_path / "out" / "checkpoint_best.pt")
    assert best["task_state"]["answers"] == ["green", "red", "blue"]
    assert any(name.startswith("text_decoder.") for name in best["model"])


TINY = "--text-tower cclm_xlmr_nano --text-width 32 --text-layers 2 --fusion-layers 2 --embed-dim 16".split()


@pytest.mark.parametrize("arch", [["cclm_tiny"], ["cclm", *TINY]], ids=["cclm_tiny", "cclm"])
def test_given_grids_are_answered_about_and_restarts_are_exact(run, train, examples, tmp_path, arch):
    """A preset for pictures with features in their place, and the model itself; stopped within an epoch."""
    names = sorted(path.stem for path in (examples / "images" / "gqa").glob("*.jpg"))
    grids = tmp_path / "grids.npy"
    np.save(grids, np.random.default_rng(0).standard_normal((len(names), 4, 5)).astype(np.float32))
    grids.with_suffix(".txt").write_text("".join(f"{name}\n" for name in names))
    task = ["--task", "visual_question_answering", "--criterion", "visual_question_answering"]
    own = [*task, "--examples", examples / "gqa.json", "--valid-examples", examples / "xgqa.json", "--batch-size", 5]
    own += ["--image-features", grids, "--image-root", "", "--arch", *arch, "--image-tower", "feature_grid"]
    for folder, updates in (("whole", 5), ("parts", 2), ("parts", 5)):
        ended = train(folder, *own, "--max-update", updates, model=())
        assert ended.status == 0, ended.err[-3000:]
    assert not differing(tmp_path / "whole" / "checkpoint_last.pt", tmp_path / "parts" / "checkpoint_last.pt")
    evaluate = ["mlvl-evaluate", "vqa", "--checkpoint", tmp_path / "parts" / "checkpoint_best.pt", "--lang", "de"]
    evaluate += ["--examples", examples / "xgqa.json", "--image-features", grids]
    scores = json.loads(run(*evaluate).out)
    best = load_checkpoint_file(tmp_path / "parts" / "checkpoint_best.pt")["extra_state"]["val_loss"]
    assert scores["accuracy"] == pytest.approx(best, abs=1e-3)


def test_two_ranks_train_on_statements_as_one_process(fork, streams, examples, user_dir, tmp_path):
    """Of two images each; the last batch is shared out, too."""
    own = ["fairseq-train", "--user-dir", user_dir, "--tokenizer-folder", streams / "pieces"]
    own += ["--image-root", examples / "images", "--examples", examples / "nlvr.json", *MODEL, *TRAINING]
    own += "--task image_text_classification --criterion image_classification --text-dropout 0".split()
    own += "--text-attention-dropout 0 --adam-eps 1e-2 --max-update 3 --disable-validation".split()
    address = f"tcp://127.0.0.1:{free_port()}"
    ranks = ["--distributed-world-size", 2, "--distributed-no-spawn", "--distributed-init-method", address]
    ranks += ["--distributed-backend", "gloo", "--ddp-backend", "legacy_ddp", "--distributed-rank"]
    started = [
        fork(tmp_path / "log", *own, "--batch-size", 8, "--save-dir", tmp_path / "one"),
        *(
            fork(tmp_path / f"log.{rank}", *own, "--batch-size", 4, "--save-dir", tmp_path / "two", *ranks, rank)
            for rank in range(2)
        ),
    ]
    for process in started:
        process.join(timeout=120)
    assert [process.exitcode for process in started] == [0, 0, 0], (tmp_path / "log.1").read_text()[-3000:]
    assert largest_difference(*(tmp_path / name / "checkpoint_last.pt" for name in ("one", "two"))) < 1e-5


def test_a_folder_with_a_training_on_other_examples_is_refused(train, examples, tmp_path):
    """As many of them, which fairseq takes for the same; the same ones elsewhere are the same."""
    rows = json.loads((examples / "nlvr.json").read_text())
    (tmp_path / "same.json").write_bytes((examples / "nlvr.json").read_bytes())
    (tmp_path / "other.json").write_text(json.dumps(rows[::-1]))
    own = (
        "--task image_text_classification --criterion image_classification --disable-validation --batch-size 4".split()
    )
    assert train("run", *own, "--examples", examples / "nlvr.json", "--max-update", 1).status == 0
    ended = train("run", *own, "--examples", tmp_path / "other.json", "--max-update", 2)
    assert ended.error.startswith(f"--save-dir {tmp_path / 'run'} holds a training on other examples")
    assert updates_of(tmp_path / "run" / "checkpoint_last.pt") == 1
    assert train("run", *own, "--examples", tmp_path / "same.json", "--max-update", 2).status == 0
    assert updates_of(tmp_path / "run" / "checkpoint_last.pt") == 2


def test_errors_are_one_line(train, examples, tmp_path):
    own = ["--task", "image_text_classification", "--criterion", "image_classification", "--batch-size", 4]
    rows = json.loads((examples / "nlvr.json").read_text())
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps([{**rows[0], "images": [rows[0]["images"][0], "none.png"]}, *rows[1:]]))
    error = train("out", *own, "--examples", bad, "--on-problem", "error").error
    assert error.startswith(f"{bad}:1: image 2 of 2, 'nlvr2/none.png' is not in ")
    assert "choose --on-problem skip" in error
    assert train("out", *own, "--examples", bad.with_name("x.json")).error == (
        f"{tmp_path}/x.json: no such file; similar names there: bad.json"
    )
