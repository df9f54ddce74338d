"""The scripts of examples/lilt on 20 pictures: what they would run is run in this process. A checkpoint in the
published layout is converted, scored, and aligned further."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import released_lilt as released

from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "lilt"
COMMANDS = ("mlvl-prepare", "mlvl-evaluate", "fairseq-train")
RECORD = """#!{python} -IS
import json, sys
with open({log!r}, "a") as log:
    print(json.dumps(sys.argv), file=log)
"""
SMALL = "--cpu --max-epoch 2 --batch-size 10 --num-workers 0 --image-size 32 --no-last-checkpoints".split()


@pytest.fixture(scope="module")
def play(succeed, root, user_dir, tmp_path_factory):
    """``play(script, *arguments, **environment)`` runs the commands of a script; gives what the last one printed."""
    folder = tmp_path_factory.mktemp("bin")
    log, options = folder / "log", f"{sys.executable} -m mlvl_fairseq.cli.options"
    texts = {name: RECORD.format(python=sys.executable, log=str(log)) for name in COMMANDS}
    texts["mlvl-options"] = f'#!/bin/sh\nPYTHONPATH={root} exec {options} "$@"\n'
    texts["mlvl-path"] = f"#!/bin/sh\necho {user_dir}\n"
    texts["python"] = f'#!/bin/sh\nPYTHONPATH={root} exec {sys.executable} "$@"\n'
    for name, text in texts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)

    def script(name, *arguments, **environment):
        log.write_text("")
        given = {"PATH": f"{folder}:{os.environ['PATH']}", "RECIPE": "small", **environment}
        subprocess.run(["bash", str(FOLDER / name), *map(str, arguments)], env=given, check=True, timeout=120)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        return [succeed(Path(command).name, *rest) for command, *rest in lines][-1]

    return script


@pytest.fixture(scope="module")
def data(succeed, tmp_path_factory):
    """Pictures with captions, and the letters and words of these as a BERT's vocabulary."""
    folder = tmp_path_factory.mktemp("lilt")
    succeed("mlvl-picture-world", folder / "world", "--train", 20, "--valid", 12, "--test", 12, "--languages", "en")
    rows = json.loads((folder / "world" / "train.en.json").read_text())
    captions = json.dumps([row["caption"] for row in rows])
    words = sorted(set("".join(letter if letter.isalpha() else " " for letter in captions.lower()).split()))
    (folder / "bert").mkdir()
    released.vocabulary(folder / "bert", len(released.SPECIAL) + len(words), words)
    return folder


@pytest.fixture(scope="module")
def corpus(play, data):
    world = data / "world"
    play(
        "prepare.sh", world / "valid.en.json", world / "images", data / "bert", data / "corpus", world / "train.en.json"
    )
    return data / "corpus"


def test_alignment_and_evaluation(play, corpus, data):
    play("pretrain_lilt.sh", corpus, "none", data / "bert", data / "run", *SMALL, "--overrides", "bitfit=True")
    checkpoint = data / "run" / "checkpoint_best.pt"
    assert load_checkpoint_file(checkpoint)["cfg"]["model"]["preset"] == "lwa+ln+bitfit"
    world = data / "world"
    printed = play("evaluate_lilt.sh", checkpoint, world / "test.en.json", world / "images", data / "scores")
    assert 0 < json.loads(printed)["r_mean"] <= 100 and list((data / "scores").glob("*"))


def test_a_released_checkpoint_is_scored_and_aligned_further(play, succeed, corpus, data):
    """ViT-Ti and BERT-tiny, with the published preparation of captions and pictures, and quirks of scoring."""
    words = len((data / "bert" / "vocab.txt").read_text().splitlines())
    shapes = {
        **released.vit_shapes(192, 12, 5, bottleneck=48),
        **released.bert_shapes(128, 2, words, bottleneck=32),
        **released.head_shapes(192, 128, 8),
    }
    file = released.save(data / "checkpoint_14.pth", released.random_tensors(shapes), released.config(**released.LWA))
    succeed("mlvl-convert", "lilt", file, data / "out", "--wordpiece", data / "bert")
    world, converted = data / "world", data / "out" / "lilt.pt"
    arguments = (world / "test.en.json", world / "images", data / "converted", "--overrides", "k_test=12")
    scores = json.loads(play("evaluate_lilt.sh", converted, *arguments))
    assert "-lilt-unended|maxlen:30|" in scores["signature"] and "|transform:lilt@32" in scores["signature"]
    succeed("mlvl-prepare", corpus, "--wordpiece", data / "bert", "--cleaning", "lilt", "--no-end-token")
    towers = ("--image-tower", "vit_tiny", "--text-tower", "bert_tiny", "--embed-dim", "8", "--init-from", converted)
    dimensions = ("--image-width", 192, "--image-layers", 12, "--text-width", 128, "--text-max-positions", 512)
    play(
        "pretrain_lilt.sh", corpus, "none", data / "bert", data / "further", *SMALL, *towers, *dimensions,
        "--max-epoch", "1", PRESET="reference",
    )  # fmt: skip
    state = load_checkpoint_file(data / "further" / "checkpoint_best.pt")
    assert "visual_encoder.blocks.0.attn.qkv.weight" not in state["model"], (
        "what stayed frozen is in the converted file"
    )
    again = (data / "further" / "checkpoint_best.pt", world / "test.en.json", world / "images", data / "again")
    assert json.loads(play("evaluate_lilt.sh", *again))["signature"].count("lilt") >= 2
