"""examples/lilt/run_real_encoders.sh: which rows it trains, that commands take their options, and its table."""

import json
import re
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from fairseq import options

import mlvl_fairseq
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "lilt"
SCRIPT = FOLDER / "run_real_encoders.sh"
RECORD = """#!{python} -IS
import json, os, pathlib, sys
with open({log!r}, "a") as log:
    print(json.dumps(sys.argv), file=log)
if "--save-dir" in sys.argv and os.environ.get("BREAK"):
    print("train.py: error: no room")
    sys.exit(2)
if sys.argv[0].endswith("mlvl-prepare"):
    (pathlib.Path(sys.argv[1])).mkdir(parents=True, exist_ok=True)
"""


@pytest.fixture
def call(stubs, tmp_path):
    for name in ("mlvl-prepare", "mlvl-evaluate", "fairseq-train", "python"):
        stubs.add(name, RECORD.format(python=sys.executable, log=str(stubs.log)))
    stubs.add("mlvl-path", f"#!/bin/sh\necho {Path(mlvl_fairseq.__file__).parent}\n")
    (tmp_path / "photos" / "images").mkdir(parents=True)
    (tmp_path / "photos" / "train.en.json").touch()

    def script(*arguments, **environment):
        _, lines = stubs.run(SCRIPT, *arguments, **environment)
        return [(Path(command).name, rest) for command, *rest in lines]

    return script


def trainings(calls):
    parser = options.get_training_parser
    return [options.parse_args_and_arch(parser(), rest) for command, rest in calls if command == "fairseq-train"]


def test_rows_of_both_encoders(call):
    calls = call("photos", "out")
    rows = trainings(calls)
    minilm = ("lit", "proj", "ln_text", "bitfit_text", "lwa_text+ln_text", "da_text+ln_text", "lora_text")
    e5 = ("lit", "proj", "ln_text", "lwa_text+ln_text")
    expected = [("minilm", 1, minilm), ("e5", 1, e5), ("minilm", 2, minilm), ("minilm", 3, minilm)]
    folders = [f"out/rows/{text}/{preset}/seed{seed}" for text, seed, presets in expected for preset in presets]
    assert [args.save_dir for args in rows] == folders
    first, last = rows[0], rows[10]
    assert first.lr_scales == "0.03:^text_encoder"
    assert not rows[1].lr_scales  # nothing of the text encoder trains
    assert (first.text_tower, first.text_layers, first.text_pooling) == ("bert_base", 6, "mean")
    assert (last.text_tower, last.text_layers, last.text_norm_eps) == ("xlmr_base", 12, 1e-12)
    assert (last.text_width, last.text_heads, last.preset, last.seed) == (384, 12, "lwa_text+ln_text", 1)
    assert last.tokenizer_folder.endswith("-fairseq") and first.langs == "en" and first.image_tower == "features"
    parser = import_module("mlvl_fairseq.cli.evaluate").build_parser()
    evaluated = [parser.parse_args(rest) for command, rest in calls if command == "mlvl-evaluate"]
    assert [Path(args.output_dir).parent for args in evaluated] == [Path(args.save_dir) for args in rows]


def test_what_is_done_is_skipped(call):
    call("photos", "out", SEEDS="1", TEXTS="minilm", MINILM="proj")
    calls = call("photos", "out", SEEDS="1 2", TEXTS="minilm", MINILM="proj")
    assert [args.seed for args in trainings(calls)] == [2]
    assert "mlvl-prepare" not in {command for command, _ in calls}


def test_only_preparing_and_no_time_left(call):
    parser = import_module("mlvl_fairseq.cli.prepare").build_parser()
    calls = call("photos", "out", TEXTS="")
    assert not trainings(calls)
    args = [parser.parse_args(rest) for command, rest in calls if command == "mlvl-prepare"][-1]
    assert args.image_features == ["train=out/features/train.npy", "valid=out/features/valid.npy"]
    assert not trainings(call("photos", "out", MINUTES="-1"))


def test_mistakes_are_one_line(call):
    assert not call(status=2, says="usage: run_real_encoders.sh FLICKR8K [OUT]")
    assert not call("nowhere", status=2, says="nowhere/train.en.json or nowhere/images is missing")
    assert not call("photos", status=2, says="TEXTS=bert: choose of minilm e5", TEXTS="bert")
    call("photos", "out", status=2, says="the training failed: out/rows/minilm/lit/seed1/train.log", BREAK="1")


def test_the_table(tmp_path, capsys):
    sys.path.insert(0, str(FOLDER.parent / "real_encoders"))
    try:
        import lilt_table
    finally:
        sys.path.pop(0)
    languages = (lilt_table.ENGLISH, *lilt_table.UNSEEN)
    for preset, trained, found in (("lit", "90", 3), ("ln_text", "9", 1)):
        for seed in (1, 2):
            folder = tmp_path / "minilm" / preset / f"seed{seed}"
            (folder / "scores").mkdir(parents=True)
            (folder / "done").touch()
            (folder / "train.log").write_text(f"num. shared model params: 1,00 (num. trained: {trained})\n")
            for lang in languages:
                scores = {"txt_r10": 25.0 * found, "img_r10": 25.0 * found + seed}
                (folder / "scores" / f"{lang}.val.json").write_text(json.dumps(scores))
                ranks = np.where(np.arange(4) < found, 0, 50)
                QueryRanks(np.arange(4), np.arange(4), ranks, ranks).save(folder / "scores" / f"{lang}.val.ranks.npz")
    lilt_table.main([str(tmp_path)])
    full, norms = (re.sub(" +", " ", line) for line in capsys.readouterr().out.splitlines()[2:])
    assert full.startswith("| minilm | lit | 90 | 90.00 | 75.8 ± 0.4 | 75.8 ± 0.4 |")
    assert norms.startswith("| minilm | ln_text | 9 | 9.00 | 25.8 ± 0.4 |")
    assert "| -50.0 [-100.0, +0.0] |" in norms
