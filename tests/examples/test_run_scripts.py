"""The run scripts of examples/cll_clip: which commands they give, and that these commands take them.

The commands are replaced by ones that write down how they were called, so a script takes no time; every line is then
read by the parser of the real command.
"""

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest

from mlvl_fairseq.cli.common import language_order
from mlvl_fairseq.continual.methods import list_methods, published_names

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "cll_clip"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.sh"))
COMMANDS = (
    "mlvl-picture-world mlvl-prepare mlvl-cll mlvl-report mlvl-analyse mlvl-fuse mlvl-evaluate fairseq-train".split()
)
RECORD = """#!{python} -IS
import json, pathlib, sys
arguments = sys.argv[1:]
with open({log!r}, "a") as log:
    print(json.dumps([{name!r}, *arguments]), file=log)
if {name!r} == "mlvl-cll" and arguments == ["--list-methods"]:
    print("cll_clip   one\\njoint      two")
elif {name!r} == "mlvl-cll":
    step = pathlib.Path(arguments[1]) / "35-qak"
    step.mkdir(parents=True, exist_ok=True)
    (step / "done.json").touch()
if {name!r} == "fairseq-train":
    pathlib.Path(arguments[-arguments[::-1].index("--save-dir")]).mkdir(parents=True, exist_ok=True)
    print("epoch 1 | loss 2")
if "fail" in arguments:
    sys.exit(2)
"""


@pytest.fixture
def call(stubs, tmp_path):
    """``call(script, *arguments, **environment)``: the commands it gave, by name; it must end well, or with `status`
    and `says` on standard error. OpenAI's files are there, but empty."""
    for name in ("ViT-B-16.pt", "ViT-B-32.pt", "ViT-L-14.pt"):
        (tmp_path / name).touch()
    for name in COMMANDS:
        stubs.add(name, RECORD.format(python=sys.executable, log=str(stubs.log), name=name))
    stubs.add("mlvl-path", "#!/bin/sh\necho /plugin\n")
    stubs.add("python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')

    def script(name, *arguments, **environment):
        output, lines = stubs.run(FOLDER / name, *arguments, PYTHONPATH=str(FOLDER.parents[1]), **environment)
        assert "epoch 1" not in output, "fairseq's log is for a file"
        for line in lines:
            check_arguments(*line)
        return {name: [line[1:] for line in lines if line[0] == name] for name in COMMANDS}

    return script


@pytest.fixture
def photos(tmp_path):
    """``photos(name)``: makes a folder with captions of 503 photos in seven languages, two each."""

    def write(name):
        folder = tmp_path / name
        folder.mkdir()
        for lang in "en de fr cs pt zh ar".split():
            rows = [(f"train/{k}.jpg", k, f"{lang} {k} {n}") for k in range(503) for n in range(2)]
            keys = ("image", "image_id", "caption")
            (folder / f"train.{lang}.json").write_text(json.dumps([dict(zip(keys, row)) for row in rows]))
            lines = [f"{image}\ten\t{caption}\n" for image, _, caption in rows]
            (folder / f"train.vision-en-{lang}.tsv").write_text("".join(lines))
        return folder

    return write


def check_arguments(command, *arguments):
    """The parser of the real command takes them, with nothing left over but fairseq-train's options."""
    if command == "fairseq-train":
        return
    parser = import_module(f"mlvl_fairseq.cli.{command.removeprefix('mlvl-').replace('-', '_')}").build_parser()
    _, rest = parser.parse_known_args(arguments)
    assert not rest or command == "mlvl-cll" and set(rest) <= {"--cpu", "--ewc-batches", "--mas-batches", "30"}


def option(arguments, name):
    return arguments[arguments.index(name) + 1]


def methods(calls):
    return [option(arguments, "--method") for arguments in calls["mlvl-cll"]]


def test_published_scripts_are_there():
    published = "sota ablation_study analysis_attention analysis_converge translate_test flickr30k cl".split()
    assert {f"run_{name}.sh" for name in published} <= set(SCRIPTS)


def test_comparison_runs_every_published_method_in_its_three_variants(call):
    calls = call("run_sota.sh", "cpu")
    families = "cll_clip oewc er der mla p_tuning lora dualprompt codaprompt".split()
    variants = ("", "_with_teir", "_with_teir_update")
    assert methods(calls) == [*(family + variant for family in families for variant in variants), "joint"]
    first = calls["mlvl-cll"][0]
    assert first[:2] == ["outputs/cll_clip/corpus", "outputs/cll_clip/runs/seed1/cll_clip"]
    assert option(first, "--order") == "order36" and option(first, "--seed") == "1" and first[-1] == "--cpu"
    assert option(first, "--init-from") == "outputs/cll_clip/teacher/checkpoint_best.pt"
    assert calls["mlvl-report"] == [["outputs/cll_clip/runs"]]
    assert option(calls["mlvl-prepare"][0], "--languages") == ",".join(language_order("order36"))
    assert len(calls["fairseq-train"]) == 1 and "--cpu" in calls["fairseq-train"][0]


def test_ablation_runs_the_settings_of_the_published_table(call):
    assert methods(call("run_ablation_study.sh", "cpu")) == [
        "cll_clip", "ablation_init", "ablation_grad", "ablation_decay", "ablation_grad_decay", "cll_clip_with_teir",
        "oracle_teir", "ablation_train_all", "ablation_only_cross_modal", "ablation_only_cross_lingual",
    ]  # fmt: skip


@pytest.mark.parametrize("script", ["run_sota.sh", "run_ablation_study.sh", "run_analysis_converge.sh"])
def test_methods_that_scripts_name_exist(call, script):
    assert set(methods(call(script, "cpu"))) <= set(list_methods())


def test_a_gpu_is_chosen_by_its_index(call):
    calls = call("run_sota.sh", "3", METHODS="cll_clip")
    assert "--cpu" not in calls["mlvl-cll"][0] and option(calls["mlvl-prepare"][-1], "--device") == "cuda"


def test_a_corpus_of_ones_own_is_used_as_it_is(call):
    calls = call("run_sota.sh", "0", "mine", "here", INIT_FROM="w.pt", ARCH="clip_vit_b16", METHODS="er", UPDATES="0")
    assert not calls["mlvl-picture-world"] and not calls["mlvl-prepare"] and not calls["fairseq-train"]
    (run,) = calls["mlvl-cll"]
    assert run[:2] == ["mine", "here/runs/seed1/er"]
    assert (option(run, "--init-from"), option(run, "--arch"), option(run, "--max-update")) == (
        "w.pt",
        "clip_vit_b16",
        "0",
    )
    call("run_sota.sh", "0", "mine", status=2, says="INIT_FROM=...")


def test_methods_seeds_and_jobs_come_from_the_environment(call):
    calls = call("run_sota.sh", "cpu", METHODS="all", SEEDS="1 2", JOBS="2", MLVL_CLL_OPTIONS="--lr 1")
    assert sorted(run[1] for run in calls["mlvl-cll"] if len(run) > 1) == [
        f"outputs/cll_clip/runs/seed{seed}/{method}" for seed in (1, 2) for method in ("cll_clip", "joint")
    ]
    assert all(run[-2:] == ["--lr", "1"] for run in calls["mlvl-cll"] if len(run) > 1)
    assert calls["mlvl-report"] == [["outputs/cll_clip/runs"]]  # over both seeds


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_failed_run_stops_the_script(call, jobs):
    calls = call(
        "run_sota.sh", "cpu", status=2, METHODS="cll_clip er der", JOBS=jobs, MLVL_CLL_OPTIONS="--eval-split fail"
    )
    assert not calls["mlvl-report"] and len(calls["mlvl-cll"]) <= int(jobs) + 1


@pytest.mark.parametrize("script", SCRIPTS)
def test_without_arguments_scripts_say_their_usage(call, script):
    if script.startswith("run_"):
        calls = call(script, status=2, says=f"usage: {script} ")
        assert not any(calls.values())


@pytest.mark.parametrize("script, arguments", [
    ("run_sota.sh", ["cpu"]),
    ("run_flickr8k.sh", ["data"]),
    ("run_mscoco36.sh", ["data", "ViT-B-16.pt", "out", "cll_clip", "cll_clap"]),
])  # fmt: skip
def test_wrong_methods_are_told_before_anything_is_done(call, script, arguments):
    calls = call(script, *arguments, status=2, says="METHODS: error: no method 'cll_clap'", METHODS="er cll_clap")
    assert not any(calls.values())


def test_methods_may_be_joined_and_have_published_names(call):
    assert methods(call("run_sota.sh", "cpu", METHODS="er+oewc DER_with_TEIR")) == ["er+oewc", "DER_with_TEIR"]


def test_the_teachers_log_goes_to_a_file(call, photos, tmp_path):
    photos("cpu")
    for script, folder in (("run_sota.sh", "outputs/cll_clip"), ("run_flickr8k.sh", "outputs/flickr8k")):
        call(script, "cpu", says=f"goes to {folder}/teacher/train.log", METHODS="cll_clip")
        assert (tmp_path / folder / "teacher" / "train.log").read_text() == "epoch 1 | loss 2\n"


def test_a_failed_teacher_shows_the_end_of_its_log(call, tmp_path):
    (tmp_path / "out").mkdir()
    stub = tmp_path / "bin" / "fairseq-train"
    stub.write_text(stub.read_text().replace('if "fail"', 'print("the reason"); sys.exit(3)\nif "fail"'))
    calls = call("run_sota.sh", "cpu", "", "out", status=3, says="epoch 1 | loss 2\nthe reason\nfairseq-train failed")
    assert not calls["mlvl-cll"] and not (tmp_path / "out" / "teacher" / "done").exists()


def test_another_size_of_a_drawn_world_is_told_by_the_names_of_the_variables(call, tmp_path):
    world = tmp_path / "outputs" / "cll_clip" / "world"
    world.mkdir(parents=True)
    drawn = {"generator": 1, "seed": 1, "train": 60, "valid": 12, "test": 12}
    (world / "picture_world.json").write_text(json.dumps(drawn))
    names = "was drawn with PICTURES=60 TEST_PICTURES=12, this call has PICTURES=1000 TEST_PICTURES=12"
    assert not any(call("run_sota.sh", "cpu", status=2, says=names, TEST_PICTURES="12").values())
    assert call("run_sota.sh", "cpu", METHODS="er", PICTURES="60", TEST_PICTURES="12")["mlvl-cll"]


@pytest.mark.parametrize("script, analysis, number", [
    ("run_analysis_attention.sh", "attention", 2),
    ("run_analysis_converge.sh", "convergence", 7),
])  # fmt: skip
def test_analyses_compare_runs(call, script, analysis, number):
    calls = call(script, "cpu")
    (line,) = calls["mlvl-analyse"]
    assert line[0] == analysis and line[1 : number + 1] == [run[1] for run in calls["mlvl-cll"]]
    assert option(line, "--output") == "outputs/cll_clip/analysis/seed1"


def test_translate_test_takes_the_worlds_english_sentences(call):
    (line,) = call("run_translate_test.sh", "cpu")["mlvl-fuse"]
    assert option(line, "--captions") == "outputs/cll_clip/world/test.qaf.json"
    assert option(line, "--english-captions") == "outputs/cll_clip/world/test.en.json"
    assert option(line, "--checkpoint") == "outputs/cll_clip/runs/seed1/cll_clip_with_teir/35-qak/checkpoint_best.pt"


def test_transfer_scores_the_teacher_and_final_models_on_other_pictures(call):
    calls = call("run_flickr30k.sh", "cpu", METHODS="cll_clip")
    teacher, model = calls["mlvl-evaluate"]
    assert option(teacher, "--checkpoint").endswith("teacher/checkpoint_best.pt")
    assert option(model, "--checkpoint").endswith("35-qak/checkpoint_best.pt")
    assert option(model, "--lang") == "en,de,fr,cs" and "other_world/" in option(model, "--captions")
    assert option(calls["mlvl-picture-world"][1], "--seed") != "1"
    folders = [option(line, "--output-dir") for line in (teacher, model)]
    assert folders == [f"outputs/cll_clip/flickr30k/{name}" for name in ("teacher", "cll_clip/seed1")]
    assert calls["mlvl-report"] == [["outputs/cll_clip/flickr30k"]]


def test_one_method_with_the_arguments_of_the_published_script(call, tmp_path):
    (line,) = call("run_cl.sh", "CLL_CLIP_with_TEIR", "L14", "coco", "222", "--max-epoch 1 --cpu", "out")["mlvl-cll"]
    assert line[:2] == ["corpora/coco", "out/coco/CL/L14_CLL_CLIP_with_TEIR/order222"]
    assert option(line, "--method") == "cll_clip_with_teir" and option(line, "--order") == "order222"
    assert option(line, "--init-from") == "./ViT-L-14.pt" and line[-3:] == ["--max-epoch", "1", "--cpu"]
    (line,) = call("run_cl.sh", "CLL_CLIP_Oracle0_ID0_REG1_gd", "B32", CKPT_HOME="../" + tmp_path.name)["mlvl-cll"]
    assert option(line, "--method") == "ablation_grad_decay"
    assert option(line, "--init-from") == f"../{tmp_path.name}/ViT-B-32.pt"
    call("run_cl.sh", "oEWC", "B16", "coco,cc3m", status=2)
    call("run_cl.sh", "oEWC", "B64", status=2, says="usage: run_cl.sh METHOD B16|B32|L14")


def test_weights_that_are_not_there_are_told_before_training(call):
    calls = call("run_cl.sh", "oEWC", "B16", status=2, says="models/ViT-B-16.pt: no such file", CKPT_HOME="models")
    assert not calls["mlvl-cll"]
    call("run_cl.sh", "oEWC", "B16", status=2, says="CKPT_HOME=...", CKPT_HOME="models")
    own = "--arch clip_tiny_vit --init-from teacher.pt"
    (line,) = call("run_cl.sh", "oEWC", "B16", "coco", "en,de", own, CKPT_HOME="models")["mlvl-cll"]
    assert line[-4:] == own.split() and parse(line).arch == "clip_tiny_vit" and parse(line).init_from == "teacher.pt"


def parse(line):
    return import_module("mlvl_fairseq.cli.cll").build_parser().parse_known_args(line)[0]


def test_published_names_are_our_rows(call):
    others = {theirs: ours for theirs, ours in published_names().items() if theirs.lower() != ours}
    assert len(others) > 5
    for theirs, ours in others.items():
        (line,) = call("run_cl.sh", theirs, "B16")["mlvl-cll"]
        assert option(line, "--method") == ours


def test_the_published_setting(call):
    calls = call("run_mscoco36.sh", "data", "ViT-B-16.pt", "out", "er", "cll_clip")
    assert option(calls["mlvl-prepare"][0], "--languages") == ",".join(language_order("order222"))
    assert option(calls["mlvl-prepare"][1], "--teacher") == "ViT-B-16.pt"
    assert methods(calls) == ["er", "cll_clip"] and calls["mlvl-report"] == [["out/runs"]]
    assert {option(run, "--order") for run in calls["mlvl-cll"]} == {"order222"}
    assert methods(call("run_mscoco36.sh", "data", "ViT-B-16.pt")) == [
        "cll_clip",
        "cll_clip_with_teir",
        "cll_clip_with_teir_update",
    ]


def test_real_photos(call, photos, tmp_path):
    photos("data")
    calls = call("run_flickr8k.sh", "data", "out", SEEDS="1 2", METHODS="cll_clip oewc", UPDATES="9")
    assert [run[1] for run in calls["mlvl-cll"]] == [
        f"out/seed{seed}/{method}" for seed in (1, 2) for method in ("cll_clip", "oewc")
    ]
    assert all(option(run, "--max-update") == "9" for run in calls["mlvl-cll"])
    assert calls["mlvl-report"] == [["out"]]
    prepared = calls["mlvl-prepare"][0]
    assert option(prepared, "--test") == "out/captions/test.{lang}.json"
    names = set()
    for lang in option(prepared, "--languages").split(","):
        kept = (tmp_path / "out" / "captions" / f"train.vision-en-{lang}.tsv").read_text().splitlines()
        aside = json.loads((tmp_path / "out" / "captions" / f"test.{lang}.json").read_text())
        assert len(kept) == 6 and len(aside) == 500
        assert {line.split("\t")[0] for line in kept}.isdisjoint(row["image"] for row in aside)
        assert all(row["caption"] == [f"{lang} {row['image_id']} {n}" for n in range(2)] for row in aside)
        names.add(tuple(row["image"] for row in aside))
    assert len(names) == 1  # the same in all languages


def test_too_few_photos_to_set_some_aside(call, photos, tmp_path):
    folder = photos("data")
    rows = json.loads((folder / "train.cs.json").read_text())
    (folder / "train.cs.json").write_text(json.dumps(rows[:1000]))
    says = "--photos 500: only 500 photos have captions in all of en,de,fr,cs,pt,zh,ar"
    assert not any(call("run_flickr8k.sh", "data", "out", status=2, says=says, METHODS="cll_clip").values())
