"""fairseq's own tasks with this ``--user-dir``: train, resume, evaluate, generate."""

import json
import logging
import random
import re

import pytest
import torch

from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file

DECODER = "--decoder-layers 1 --decoder-embed-dim 8 --decoder-ffn-embed-dim 8 --decoder-attention-heads 2"
ENCODER = "--encoder-layers 1 --encoder-embed-dim 8 --encoder-ffn-embed-dim 8 --encoder-attention-heads 2"
TASKS = {
    "translation": f"--arch transformer {ENCODER} {DECODER}",
    "language_modeling": f"--arch transformer_lm {DECODER} --sample-break-mode eos",
    "masked_lm": f"--arch masked_lm {ENCODER} --criterion masked_lm --sample-break-mode eos --dropout 0.1",
}
# without --update-epoch-batch-itr, batches of later epochs are those of the epoch that a run began with
TRAIN = "--optimizer adam --lr 0.01 --batch-size 10 --num-workers 0 --log-format json --update-epoch-batch-itr True"
USE = ["--batch-size", 10, "--num-workers", 0]


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    """Files ``train.txt``, ``valid.txt`` and ``test.txt`` of 60, 20 and 20 sentences of letters."""
    folder = tmp_path_factory.mktemp("sentences")
    rng = random.Random(1)
    for split, size in (("train", 60), ("valid", 20), ("test", 20)):
        lines = [" ".join(rng.choices("abcdefghij", k=rng.randint(3, 7))) for _ in range(size)]
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def run(run_here, user_dir, sentences, translation_data):
    """``run(command, task, *options)``: a command of fairseq's, with the task's data and this ``--user-dir``."""
    files = [f"--{split}pref={sentences / split}.txt" for split in ("train", "valid", "test")]
    run_here("fairseq-preprocess", "--only-source", *files, f"--destdir={sentences / 'bin'}", "--user-dir", user_dir)

    def run(command, task, *options):
        data = translation_data if task == "translation" else sentences / "bin"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fairseq_cli.validate.reset_logging", lambda: None)  # it would take pytest's handlers away
            run_here(command, data, "--task", task, "--user-dir", user_dir, "--cpu", *options)

    return run


@pytest.fixture(scope="module")
def trained(run, tmp_path_factory):
    """``trained(task)``: a folder with two epochs in one go, in ``whole``, and one after the other, in ``resumed``."""
    folders = {}

    def train(task):
        if task not in folders:
            folders[task] = folder = tmp_path_factory.mktemp(task)
            for name, epoch in (("whole", 2), ("resumed", 1), ("resumed", 2)):
                options = [*TASKS[task].split(), *TRAIN.split(), "--max-epoch", epoch, "--save-dir", folder / name]
                run("fairseq-train", task, *options)
        return folders[task]

    return train


@pytest.fixture
def logged(run, caplog):
    """``logged(...)`` is ``run(...)`` and returns what it has logged."""

    def logged(*arguments):
        with caplog.at_level(logging.INFO):
            run(*arguments)
        return caplog.text

    return logged


def hypotheses(printed):
    """Number of a sentence -> the best translation or continuation."""
    return {int(number): text for number, text in re.findall(r"^H-(\d+)\t\S+\t(.*)$", printed, re.MULTILINE)}


@pytest.mark.parametrize("task", TASKS)
def test_train_and_resume(trained, task):
    whole, resumed = (
        load_checkpoint_file(trained(task) / name / "checkpoint_last.pt") for name in ("whole", "resumed")
    )
    assert whole["optimizer_history"][-1]["num_updates"] == resumed["optimizer_history"][-1]["num_updates"] == 16
    assert whole["model"].keys() == resumed["model"].keys()
    for name, tensor in whole["model"].items():
        assert torch.equal(tensor, resumed["model"][name]), name


@pytest.mark.parametrize("task", TASKS)
def test_validate(trained, logged, task):
    """It finds the loss that the training found."""
    checkpoint = trained(task) / "whole" / "checkpoint_last.pt"
    log = logged("fairseq-validate", task, "--path", checkpoint, *USE, "--log-format", "json")
    stats = json.loads(re.search(r'{"valid_loss".*}', log)[0])
    assert float(stats["valid_loss"]) == load_checkpoint_file(checkpoint)["extra_state"]["val_loss"] > 1


def test_evaluate_a_language_model(trained, logged):
    checkpoint = trained("language_modeling") / "whole" / "checkpoint_last.pt"
    options = ["--path", checkpoint, *USE, "--sample-break-mode", "eos", "--gen-subset", "valid"]
    loss = re.search(r"Loss \(base 2\): ([\d.]+)", logged("fairseq-eval-lm", "language_modeling", *options))[1]
    assert float(loss) == pytest.approx(load_checkpoint_file(checkpoint)["extra_state"]["val_loss"], abs=1e-3)


def test_continue_sentences_with_a_language_model(trained, run, sentences, capsys):
    options = ["--path", trained("language_modeling") / "whole" / "checkpoint_last.pt", *USE]
    capsys.readouterr()
    run("fairseq-generate", "language_modeling", *options, "--sample-break-mode", "eos", "--prefix-size", 1)
    lines = (sentences / "test.txt").read_text().splitlines()
    found = hypotheses(capsys.readouterr().out)
    assert sorted(found) == list(range(len(lines)))
    assert [found[number][0] for number in range(len(lines))] == [line[0] for line in lines]


def test_translate_a_test_set_and_lines(trained, run, translation_data, capsys):
    """fairseq-generate leaves no sentence out, and fairseq-interactive translates as it does."""
    options = ["--path", trained("translation") / "whole" / "checkpoint_last.pt", "--max-len-b", 8, *USE]
    source = translation_data.parent / "test.src"
    capsys.readouterr()
    run("fairseq-generate", "translation", *options)
    generated = hypotheses(capsys.readouterr().out)
    run("fairseq-interactive", "translation", *options, "--input", source, "--buffer-size", 20)
    assert hypotheses(capsys.readouterr().out) == generated
    assert sorted(generated) == list(range(len(source.read_text().splitlines())))
