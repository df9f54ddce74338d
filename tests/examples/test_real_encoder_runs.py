"""examples/lilt/run_real_encoders.sh and examples/real_encoders/run_mclip.sh: which rows they train, that commands take
their options, and their tables."""

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


MCLIP = FOLDER.parent / "real_encoders" / "run_mclip.sh"


@pytest.fixture
def call_mclip(stubs, call):
    def script(*arguments, **environment):
        _, lines = stubs.run(MCLIP, *arguments, **environment)
        return [(Path(command).name, rest) for command, *rest in lines]

    return script


def test_rows_of_mclip(call_mclip):
    """The first seed of all arms, then the second; nothing is chosen on the photos that are searched."""
    calls = call_mclip("photos", "out", SEEDS="1 2")
    teacher, *rows = trainings(calls)
    assert (teacher.image_tower, teacher.transform, teacher.preset) == (
        "efficientnet_lite0",
        "efficientnet_lite",
        "lit",
    )
    arms = ("trikd", "itc_only", "m2m")
    assert [args.save_dir for args in rows] == [f"out/rows/{arm}/seed{seed}" for seed in (1, 2) for arm in arms]
    assert [args.seed for args in rows] == [1, 1, 1, 2, 2, 2]
    assert all(args.disable_validation and args.langs == "en" and args.cached_states for args in rows)
    assert {args.clip for args in rows} == {"out/teacher/checkpoint_last.pt"}
    assert [(args.arch, args.criterion) for args in rows[:3]] == [("trikd_tiny", "trikd")] * 2 + [("m2m_base", "m2m")]
    assert [args.loss_type for args in rows[:2]] == ["sim", "nott"]
    assert (rows[0].encoder_embed_dim, rows[0].encoder_attention_heads, rows[0].max_epoch) == (384, 12, 3)
    parser = import_module("mlvl_fairseq.cli.evaluate").build_parser()
    evaluated = [parser.parse_args(rest) for command, rest in calls if command == "mlvl-evaluate"]
    assert [args.checkpoint for args in evaluated] == [f"{args.save_dir}/checkpoint_last.pt" for args in rows]
    assert {args.lang for args in evaluated} == {"en,de,fr,cs,pt,zh,ar,nl"}
    assert calls[-1] == ("python", [str(MCLIP.parent / "mclip_table.py"), "out/rows"])


def test_what_is_done_of_mclip_is_skipped(call_mclip):
    call_mclip("photos", "out", SEEDS="1", ARMS="m2m")
    calls = call_mclip("photos", "out", SEEDS="1 2", ARMS="m2m")
    assert [args.seed for args in trainings(calls)] == [2]
    assert "mlvl-prepare" not in {command for command, _ in calls}
    assert not trainings(call_mclip("photos", "out", SEEDS="3", MINUTES="-1"))
    assert not call_mclip("photos", "out", status=2, says="ARMS=clip: choose one of trikd itc_only m2m", ARMS="clip")
    assert not call_mclip("nowhere", status=2, says="nowhere/train.en.json or nowhere/images is missing")


def test_the_table_of_mclip(tmp_path, capsys):
    sys.path.insert(0, str(MCLIP.parent))
    try:
        import mclip_table
    finally:
        sys.path.pop(0)
    for arm, found in (("m2m", 1), ("trikd", 3)):
        for seed in (1, 2):
            scores = tmp_path / arm / f"seed{seed}" / "scores"
            scores.mkdir(parents=True)
            (scores.parent / "done").touch()
            for lang in (mclip_table.ENGLISH, *mclip_table.UNSEEN):
                (scores / f"{lang}.val.json").write_text(json.dumps({"r_mean": 25.0 * found + seed}))
                ranks = np.where(np.arange(4) < found, 0, 50)
                QueryRanks(np.arange(4), np.arange(4), ranks, ranks).save(scores / f"{lang}.val.ranks.npz")
    (tmp_path / "itc_only" / "seed1").mkdir(parents=True)  # not finished
    mclip_table.main([str(tmp_path)])
    full, linear = (re.sub(" +", " ", line) for line in capsys.readouterr().out.splitlines()[2:])
    assert full.startswith("| trikd | 2 | 76.5 ± 0.7 |") and full.endswith("| 76.5 ± 0.7 | | |")
    assert linear.startswith("| m2m | 2 | 26.5 ± 0.7 |") and "| -50.0 [-100.0, +0.0] |" in linear
