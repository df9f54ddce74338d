"""The scripts of examples/lilt: which commands they give, and that the published configuration has its options.

Commands are replaced by ones that write down how they were called; each line is read by the real command's parser.
"""

import re
import sys
from importlib import import_module, util
from pathlib import Path

import pytest
from fairseq import options

import mlvl_fairseq
from mlvl_fairseq.errors import DataError, UserError

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "lilt"
PLUGIN = Path(mlvl_fairseq.__file__).parent
SCRIPTS = (
    "prepare.sh",
    *(f"{kind}_{mode}.sh" for kind in ("pretrain", "evaluate") for mode in ("clip", "lit", "lilt")),
)
RECORD = """#!{python} -IS
import json, sys
with open({log!r}, "a") as log:
    print(json.dumps(sys.argv), file=log)
"""
# Every key of CLIPAdjustable.yaml and of the Retrieval_AdjustableCLIP_*.yaml, and the one to be added with a plus.
PUBLISHED_KEYS = """version train_file image_res embed_dim batch_size temp optimizer.opt optimizer.lr
    optimizer.weight_decay schedular.sched schedular.lr schedular.epochs schedular.min_lr schedular.decay_rate
    schedular.warmup_lr schedular.warmup_epochs schedular.cooldown_epochs disable_wandb text_encoder vision_encoder
    pretrained_text pretrained_vision freeze_text_encoder freeze_vision_encoder freeze_proj unlock_layernorm
    unlock_dense unlock_attn unlock_random bitfit add_adapter adapter_append conventional_adapter.insert
    conventional_adapter.reduction_factor always_freeze.visual_encoder always_freeze.text_encoder fp16 limit_num_samples
    load_strict model_config.import_path alpha save_last_only val_file test_file image_root save_sims batch_size_train
    batch_size_test k_test""".split()


@pytest.fixture(scope="module")
def overrides():
    spec = util.spec_from_file_location("lilt_overrides", FOLDER / "overrides.py")
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def call(stubs, tmp_path, root):
    """``call(script, *arguments, **environment)``: the commands that it gave, each read by its parser."""
    for name in ("mlvl-prepare", "mlvl-evaluate", "fairseq-train"):
        stubs.add(name, RECORD.format(python=sys.executable, log=str(stubs.log)))
    stubs.add("mlvl-path", f"#!/bin/sh\necho {PLUGIN}\n")
    stubs.add("python", f'#!/bin/sh\nPYTHONPATH={root} exec {sys.executable} "$@"\n')
    for name, files in {"bert": ["vocab.txt", "config.json"], "words": ["vocab.txt"]}.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).touch()

    def script(name, *arguments, **environment):
        _, lines = stubs.run(FOLDER / name, *arguments, **environment)
        return [(Path(command).name, parse(Path(command).name, rest)) for command, *rest in lines]

    return script


def parse(command, arguments):
    if command == "fairseq-train":
        return options.parse_args_and_arch(options.get_training_parser(), arguments)
    return import_module(f"mlvl_fairseq.cli.{command.removeprefix('mlvl-')}").build_parser().parse_args(arguments)


def pretrain(call, mode, *more, image="deit.pth", text="bert", **environment):
    ((command, args),) = call(f"pretrain_{mode}.sh", "corpus", image, text, "out", *more, **environment)
    assert command == "fairseq-train" and (args.data, args.save_dir) == ("corpus", "out")
    return args


@pytest.mark.parametrize("mode, preset", [("clip", "full"), ("lit", "lit"), ("lilt", "lwa+ln")])
def test_published_modes(call, mode, preset):
    args = pretrain(call, mode, "--seed", "3")
    assert (args.preset, args.image_tower, args.text_tower, args.seed) == (preset, "vit_base", "bert_base", 3)
    assert (args.tokenizer_folder, args.text_weights, args.image_weights) == ("bert", "bert", "deit.pth")
    assert (args.batch_size, args.max_epoch, args.lr, args.warmup_blocks) == (128, 15, [1e-4], 10)


def test_the_small_recipe_starts_from_what_is_given(call):
    args = pretrain(call, "lilt", image="none", text="words", RECIPE="small")
    assert args.arch == "lilt_nano" and args.preset == "lwa+ln" and args.tokenizer_folder == "words"
    assert getattr(args, "image_weights", None) is None and getattr(args, "text_weights", None) is None


def test_published_overrides_follow_those_of_the_mode(call):
    words = (
        "vision_encoder=base_dino optimizer.lr=3e-5 schedular.epochs=2 conventional_adapter.reduction_factor=8".split()
    )
    args = pretrain(call, "lilt", "--overrides", *words, "unlock_layernorm=vision_only", "bitfit=True", "--seed", "9")
    assert (args.image_tower, args.lr, args.max_epoch, args.adapter_reduction) == ("vit_base_dino", [3e-5], 2, 8)
    assert (args.preset, args.seed) == ("lwa+ln_image+bitfit", 9)


def test_quirks_are_for_corpus_training_and_evaluation(call):
    plain, quirky = (pretrain(call, "lilt", PRESET=name) for name in ("default", "reference"))
    assert getattr(plain, "no_end_token", False) is False and quirky.no_end_token
    assert (quirky.cleaning, quirky.transform, quirky.negatives, quirky.text_token_types) == ("lilt",) * 2 + (
        "local",
        "drop",
    )
    calls = call("prepare.sh", "val.json", "/", "bert", "corpus", "a.json", "b.json", PRESET="reference")
    (_, captions), (_, tokens) = calls
    assert [str(file) for file in captions.train] == ["a.json", "b.json"]
    assert [str(file) for file in captions.valid] == ["val.json"]
    assert tokens.wordpiece == "bert" and tokens.cleaning == "lilt" and tokens.no_end_token
    assert call("evaluate_lilt.sh", "lilt.pt", "test.json", "images", "out", PRESET="reference")


@pytest.mark.parametrize("mode", ["clip", "lit", "lilt"])
def test_evaluation(stubs, call, mode):
    words = ("--device", "cuda", "--overrides", "k_test=256", "text_encoder=base", "batch_size_test=8")
    script, arguments = FOLDER / f"evaluate_{mode}.sh", ("lilt.pt", "val_ko.json", "coco", "out", *words)
    call(f"evaluate_{mode}.sh", *arguments)
    _, ((_, *given),) = stubs.run(script, *arguments, LANGS="ko")
    expected = "--checkpoint lilt.pt --lang ko --captions val_ko.json --image-root coco --output-dir out --top-k 256"
    assert given == [*expected.split(), "--batch-size", "8", "--device", "cuda"]


def test_wrong_settings_are_one_line(call):
    arguments = ("corpus", "none", "bert", "out")
    call("pretrain_lilt.sh", *arguments, RECIPE="smal", status=2, says="RECIPE=smal: choose one of published small")
    call(
        "pretrain_lilt.sh", "corpus", "none", "nowhere", "out", status=2, says="nowhere/vocab.txt or tokenizer.json is"
    )
    call(
        "pretrain_lilt.sh",
        *arguments,
        "--overrides",
        "bitfits=True",
        status=2,
        says="--overrides bitfits=True: give KEY",
    )
    call("evaluate_lilt.sh", "checkpoint_14.pth", "a", "b", "c", status=2, says="convert it first: mlvl-convert lilt")


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_and_usage(stubs, call, script):
    output, lines = stubs.run(FOLDER / script, "--help")
    assert output.startswith((FOLDER / script).read_text().splitlines()[1].removeprefix("# ")) and not lines
    call(script, status=2, says=f"usage: {script} ")


def test_the_table_has_every_published_key_once(overrides):
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert overrides.table() in page
    rows = re.findall(r"^\| `([\w.]+)` \|", page[page.index(overrides.table()) :], re.M)
    assert sorted(rows) == sorted(PUBLISHED_KEYS) == sorted(overrides.KEYS)


def test_every_option_of_the_table_takes_its_value(overrides):
    """Each by the parser of its command; that the page names no other options is tested with all documentation."""
    values = {"text_encoder": "small", "vision_encoder": "tiny", "test_file": "t.json", "image_root": "images"}
    values.update({"fp16": "True", "always_freeze.visual_encoder": "[0,1]", "always_freeze.text_encoder": "[1]"})
    task = ["corpus", "--user-dir", str(PLUGIN), "--task", "image_text_retrieval", "--arch", "lilt", "--criterion"]
    task += "clip_contrastive --optimizer grouped_adamw --lr-scheduler stepped_cosine".split()
    for key, one in overrides.KEYS.items():
        for kind, option in (("train", one.train), ("evaluate", one.evaluate)):
            words = overrides.translate(kind, [f"{key}={values.get(key, 7)}"]) if option else []
            if option:
                assert words[0] == option
                given = ["--checkpoint", "c", "--lang", "en", "--captions", "c", "--image-root", "i", *words]
                parse("fairseq-train", [*task, *words]) if kind == "train" else parse("mlvl-evaluate", given)
    with pytest.raises(DataError, match="unlock_layernorm"):
        overrides.translate("train", ["unlock_layernorm=both"])
    for word in ("temp=0.1", "optimizer.opt=sgd", "novel=1", "bitfit"):
        with pytest.raises(UserError, match=word.split("=")[0]):
            overrides.translate("train", [word])
