"""The run scripts of examples/mclip: which trainings they start, and that fairseq-train takes their options.

Commands are replaced by ones that write down how they were called; each line is read by the real command's parser.
"""

import sys
from importlib import import_module
from pathlib import Path

import pytest
from fairseq import options

import mlvl_fairseq

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "mclip"
PLUGIN = Path(mlvl_fairseq.__file__).parent
COMMANDS = ["mlvl-prepare", "mlvl-encode", "mlvl-export", "mlvl-evaluate", "fairseq-train", "fairseq-preprocess"]
RECORD = """#!{python} -IS
import json, os, pathlib, sys
with open({log!r}, "a") as log:
    print(json.dumps(sys.argv), file=log)
if "--save-dir" in sys.argv:
    pathlib.Path(sys.argv[-sys.argv[::-1].index("--save-dir")]).mkdir(parents=True, exist_ok=True)
"""


@pytest.fixture
def call(stubs):
    """``call(script, *arguments, **environment)``: the lines of commands that it gave, each read by its parser."""
    for name in COMMANDS:
        stubs.add(name, RECORD.format(python=sys.executable, log=str(stubs.log)))
    stubs.add("mlvl-path", f"#!/bin/sh\necho {PLUGIN}\n")

    def script(name, *arguments, **environment):
        _, lines = stubs.run(FOLDER / name, *arguments, **environment)
        return [(Path(command).name, parse(Path(command).name, rest)) for command, *rest in lines]

    return script


def parse(command, arguments):
    if command == "fairseq-preprocess":
        return options.get_preprocessing_parser("mte_pretraining").parse_args(arguments)
    if command == "fairseq-train":
        return options.parse_args_and_arch(options.get_training_parser(), arguments)
    return import_module(f"mlvl_fairseq.cli.{command.removeprefix('mlvl-')}").build_parser().parse_args(arguments)


def trainings(calls):
    return [args for command, args in calls if command == "fairseq-train"]


@pytest.fixture(autouse=True)
def pieces(tmp_path):
    """XLM-R's folder, as far as the scripts look at it."""
    (tmp_path / "xlmr").mkdir()
    for name in ("dict.txt", "sentencepiece.bpe.model"):
        (tmp_path / "xlmr" / name).touch()


def test_parallel_text_is_cut_and_binarized_with_xlmrs_dictionary(call, tmp_path):
    (tmp_path / "raw").mkdir()
    for split in ("train", "valid"):
        for lang in ("de", "en"):
            (tmp_path / "raw" / f"{split}.de-en.{lang}").write_text("a\n")
    calls = call("prepare_parallel.sh", "xlmr", "raw", "out", "de")
    assert [command for command, _ in calls] == ["mlvl-encode", "fairseq-preprocess"]
    args = calls[0][1]
    assert args.files == [f"raw/{split}.de-en.{side}" for split in ("train", "valid") for side in ("de", "en")]
    assert args.parallel and (args.sentencepiece, args.output_dir) == ("xlmr", "out/pieces")
    args = calls[-1][1]
    assert (args.trainpref, args.validpref) == (
        "out/pieces/train.de-en",
        "out/pieces/valid.de-en",
    ) and not args.testpref
    assert args.srcdict == args.tgtdict == "xlmr/dict.txt" and (args.source_lang, args.target_lang) == ("de", "en")
    assert not call("prepare_parallel.sh", "xlmr", "raw", "out", "de"), "what is done is skipped"


def test_published_stages_of_the_mte(call):
    calls = call("run_mte.sh", "fseq", "xlmr", "out")
    first, second = trainings(calls)
    assert first.arch == second.arch == "mte_base" and first.fp16 and first.xlmr == "xlmr" and first.truncate == 508
    assert (first.train_encoder, first.contrastive_lambda, first.max_update) == ("none", 0, 400000)
    assert (second.train_encoder, second.contrastive_lambda, second.max_update) == ("layers", 2, 160000)
    assert second.init_from == "out/stage1/checkpoint_best.pt" and second.update_freq == [4]
    command, args = calls[-1]
    assert command == "mlvl-export" and (args.format, args.out) == ("xlmr", "out/xlmr")


def test_small_stages_contrast_from_the_start(call):
    first, second = trainings(call("run_mte.sh", "fseq", "xlmr", "out", RECIPE="small", STAGE2="--max-update 7"))
    assert first.arch == "mte_tiny" and first.cpu and first.encoder_from_scratch and not first.fp16
    assert (first.train_encoder, first.contrastive_lambda) == ("all", 2)
    assert (first.max_update, second.max_update, second.train_encoder) == (500, 7, "layers")


def test_a_finished_stage_is_not_trained_again(call):
    assert len(trainings(call("run_mte.sh", "fseq", "xlmr", "out"))) == 2
    assert not trainings(call("run_mte.sh", "fseq", "xlmr", "out"))


@pytest.mark.parametrize("recipe", ["published", "small"])
def test_presets_of_the_mte(call, recipe):
    plain = trainings(call("run_mte.sh", "fseq", "xlmr", "plain", RECIPE=recipe))
    quirky = trainings(call("run_mte.sh", "fseq", "xlmr", "quirky", RECIPE=recipe, PRESET="reference"))
    flags = ("no_source_bos", "frozen_dropout")  # fairseq's parser has some of them only if they are given
    assert not any(getattr(args, flag, False) for args in plain for flag in flags)
    assert not any(args.smoothing_to == "all" for args in plain)
    assert all(args.no_source_bos and args.frozen_dropout and args.smoothing_to == "all" for args in quirky)
    assert quirky[1].contrastive_weight == "published" and quirky[1].contrastive_source == "projected"


def trikd(call, *arguments, **environment):
    (args,) = trainings(call("run_trikd.sh", "corpus", "xlmr", "mte.pt", "out", *arguments, **environment))
    return args


def test_published_pretraining_and_fine_tuning(call):
    args = trikd(call, "--clip", "ViT-B-32.pt")
    assert (args.arch, args.optimizer, args.lr, args.batch_size) == ("trikd_base", "torch_lamb", [1e-2], 2048)
    assert args.fp16 and args.fp16_no_flatten_grads and args.positives == "masked" and args.ttc_temperature == 0.07
    tuned = trikd(call, "--langs", "de", INIT="trikd.pt")
    assert (tuned.init_projectors_from, tuned.positives, tuned.batch_size) == ("trikd.pt", "mean", 128)
    assert (tuned.max_epoch, tuned.langs) == (30, "de")


@pytest.mark.parametrize("recipe", ["published", "small"])
def test_presets_of_trikd(call, recipe):
    args = trikd(call, RECIPE=recipe, PRESET="reference")
    assert (args.ttc_temperature, args.positives, args.non_english_ttc) == (0.376, "diagonal", "image")
    assert args.cpu == (recipe == "small") and args.frozen_dropout and args.single_language_batches
    tuned = trikd(call, RECIPE=recipe, PRESET="reference", INIT="trikd.pt")
    assert (tuned.ttc_temperature, tuned.positives, tuned.reset_temperature) == (0.217, "sum", True)


@pytest.mark.parametrize("layout", ["json", "cc3m", "coco", "multi30k"])
def test_layouts_of_pictures(call, layout):
    calls = call("prepare_images.sh", layout, "data", "corpus", "clip.pt", "xlmr", "en,de")
    assert {command for command, _ in calls} == {"mlvl-prepare"}
    assert any(args.teacher == "clip.pt" for _, args in calls) and any(
        args.sentencepiece == "xlmr" for _, args in calls
    )


@pytest.mark.parametrize("preset, transform", [("default", None), ("reference", "mclip")])
def test_pictures_are_cut_as_the_training_expects(call, preset, transform):
    calls = call("prepare_images.sh", "json", "data", "corpus", "clip.pt", "xlmr", PRESET=preset)
    assert [args.transform for _, args in calls if args.teacher] == [transform]
    trained = trikd(call, PRESET=preset)  # fairseq's parser has options without a default only if they are given
    assert getattr(trained, "transform", "clip") == (transform or "clip")


def test_variants_on_real_text_are_scored_and_reported_over_their_seeds(stubs, call, tmp_path):
    """Every variant and seed has a folder of scores, and the last command makes one table of them all."""
    for name in ("mlvl-report", "mlvl-sentencepiece"):
        stubs.add(name, RECORD.format(python=sys.executable, log=str(stubs.log)))
    for folder, files in {
        "text": [f"{split}.{lang}" for split in ("train", "val") for lang in ("en", "de", "fr", "cs")],
        "out/xlmr": ["dict.txt", "sentencepiece.bpe.model"],
        "out/corpus": ["corpus.json"],
        "photos": [],
    }.items():
        (tmp_path / folder).mkdir(parents=True)
        for name in files:
            (tmp_path / folder / name).write_text("a\n")
    script = ("run_multi30k.sh", "text", "photos", "out")
    calls = call(*script, SEEDS="1 2")
    scores = sorted(args.output_dir for command, args in calls if command == "mlvl-evaluate")
    variants = ("full", "itc_only", "late_ctl", "no_ctl", "stage1_only", "ttc_only", "untrained")
    assert scores == [f"out/trikd/{variant}/seed{seed}/scores" for variant in variants for seed in (1, 2)]
    command, args = calls[-1]
    assert command == "mlvl-report" and [str(folder) for folder in args.run_dirs] == ["out/trikd"]
    again = call(*script, SEEDS="1 2")
    assert not trainings(again) and "mlvl-evaluate" not in {command for command, _ in again}


def test_nothing_is_made_of_parallel_text_with_a_fault(call, stubs, tmp_path):
    """mlvl-encode checks all files before it writes any."""
    stubs.add("mlvl-encode", "#!/bin/sh\necho 'raw/train.de-en.de:5: not valid UTF-8' >&2\nexit 2\n")
    assert not call("prepare_parallel.sh", "xlmr", "raw", "out", "de", status=2, says="train.de-en.de:5: not valid")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("script", ["run_mte.sh", "run_trikd.sh"])
def test_wrong_settings(call, script):
    arguments = ("a", "xlmr", "b", "c")
    call(script, *arguments, status=2, says="RECIPE=smal: choose one of published small", RECIPE="smal")
    call(script, *arguments, status=2, says="PRESET=x: choose one of default reference", PRESET="x")
    call(script, "a", "nowhere", "b", "c", status=2, says="nowhere/dict.txt is missing")


SCRIPTS = sorted(path.name for path in FOLDER.glob("*_*.sh"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_the_comment_at_the_head(stubs, call, script):
    head = (FOLDER / script).read_text().splitlines()[1].removeprefix("# ")
    for option in ("--help", "-h"):
        output, calls = stubs.run(FOLDER / script, option)
        assert output.startswith(head) and "source" not in output and not calls


@pytest.mark.parametrize("script", [script for script in SCRIPTS if script != "run_generated.sh"])
def test_without_arguments_scripts_say_their_usage(call, script):
    assert not call(script, status=2, says=f"usage: {script} ")


def test_without_the_plugin_scripts_say_how_to_install_it(stubs):
    stubs.run(FOLDER / "run_generated.sh", status=2, says="source .venv/bin/activate")
