"""fairseq-hydra-train as a way in: recipes by both commands, named architectures, restarts, sweeps, user errors."""

import json
import os
import re
import shlex
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from fairseq import options
from fairseq.dataclass.initialize import add_defaults
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import ARCH_MODEL_NAME_REGISTRY, ARCH_MODEL_REGISTRY, MODEL_DATACLASS_REGISTRY
from omegaconf import OmegaConf
from processes import updates_in, updates_of

import mlvl_fairseq
from mlvl_fairseq.checkpoints.comparison import differing
from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file
from mlvl_fairseq.configs import FOLDER, compose_config, list_configs
from mlvl_fairseq.fairseq_patches.hydra_train import fill_in_architecture

WIDTH = 32
SMALL = "common.cpu=true common.fp16=false dataset.num_workers=0 dataset.required_batch_size_multiple=1".split()
CLIP = (
    f"model.embed_dim={WIDTH} model.text_width={WIDTH} model.text_layers=1 model.text_heads=2 model.image_size=32 "
    f"model.patch_size=16 model.vision_width={WIDTH} model.vision_layers=1 model.vision_heads=2 dataset.batch_size=16"
).split()
ENCODER = f"model.encoder_embed_dim={WIDTH} model.encoder_ffn_embed_dim={2 * WIDTH} model.encoder_attention_heads=2"
MTE = (
    f"{ENCODER} model.encoder_layers=1 model.decoder_layers=1 model.decoder_ffn_embed_dim=64 "
    "model.decoder_attention_heads=2 dataset.max_tokens=400 task.bleu_sentences=2 task.max_source_positions=64 "
    "task.max_target_positions=64 task.truncate=0"
).split()
CCLM = ["task.held_out=0.3", "task.region_images=6", "model._name=cclm_tiny"]
START = {"model.init_from": "mte", "model.init_projectors_from": "trikd"}  # what fine-tuning recipes start from


@pytest.fixture(scope="module")
def feature_corpus(succeed, world, caption_patterns, tmp_path_factory):
    """A corpus with given image features."""
    folder, rng = tmp_path_factory.mktemp("features"), np.random.default_rng(0)
    features, names = ["--image-features"], ["--image-list"]
    for split in ("train", "valid", "test"):
        captions = json.loads((world / f"{split}.en.json").read_text(encoding="utf-8"))
        images = sorted({row["image"] for row in captions})
        np.save(folder / f"{split}.npy", rng.standard_normal((len(images), 8)).astype(np.float32))
        (folder / f"{split}.txt").write_text("".join(f"{image}\n" for image in images))
        features.append(f"{split}={folder / split}.npy")
        names.append(f"{split}={folder / split}.txt")
    succeed("mlvl-prepare", folder / "corpus", *caption_patterns, *features, *names)
    return folder / "corpus"


@pytest.fixture(scope="module")
def overrides(request):
    """``overrides(config, folder)``: what lets a recipe train two updates on tiny data."""

    def given(name):
        config = compose_config(name)
        task, model = config["task"]["_name"], config["model"]
        value = request.getfixturevalue
        if task == "mte_pretraining":
            own = [*MTE, f"task.data={value('parallel') / 'bin'}"]
            own += [f"model.xlmr={value('parallel')}"] if "xlmr" in model else []
        elif task == "image_classification":
            own = [f"task.data={value('classes')}", "dataset.batch_size=16"]
        elif task == "trikd":
            sizes = ENCODER.split() if "encoder_embed_dim" in fields_of(model["_name"]) else []
            own = [*sizes, "dataset.batch_size=16", f"task.data={value('trikd_corpus')}"]
            own += [f"task.sentencepiece={value('pieces')}", f"model.mte={value('mte')}"]
            own += ["task.langs=en"]
        elif task == "cclm_pretraining":
            files = {"image_text": "images", "parallel_text": "texts", "regions": "regions"}
            started = "init_from" in model
            own = ["model.init_from=null"] if started else []
            files = {"image_text": "images"} if started else files
            own += [f"task.{kind}={value('streams') / name}.jsonl" for kind, name in files.items()]
            own += [f"task.tokenizer_folder={value('streams') / 'pieces'}", "dataset.batch_size=6", *CCLM]
        elif "examples" in config["task"]:
            files = {"image_text_classification": "xvnli.jsonl", "visual_question_answering": "gqa.json"}
            folder, name = value("examples"), files[task]
            own = [f"task.{kind}={folder / name}" for kind in ("examples", "valid_examples")]
            own += [f"task.tokenizer_folder={value('streams') / 'pieces'}", f"task.image_root={folder / 'images'}"]
            own += ["dataset.batch_size=12", "model._name=cclm_tiny"]
        elif model["_name"].startswith("cclm"):
            own = [f"task.data={value('trikd_corpus')}", f"task.tokenizer_folder={value('pieces')}"]
            own += ["model._name=cclm_tiny", "model.init_from=null", "dataset.batch_size=16"]
        elif "tokenizer_folder" in config["task"]:
            own = [
                f"task.data={value('wordpiece_corpus')}",
                f"task.tokenizer_folder={value('wordpiece_corpus').parent}",
            ]
            own += ["model.image_weights=null", "model.text_weights=null", "dataset.batch_size=16"]
        elif task == "cll_retrieval":
            own = [*CLIP, f"task.data={value('corpus')}", "task.lang=en", f"model.init_from={value('teacher')}"]
        else:
            data = "feature_corpus" if model["_name"] == "clip_tiny" else "corpus"
            own = [*CLIP, f"task.data={value(data)}"]
        return [f"++{text}" for text in (*SMALL, *own, "optimization.max_update=2")]

    return given


def train(succeed, config, given, folder):
    """Train with a recipe by Hydra; its last checkpoint."""
    succeed("fairseq-hydra-train", "--config-name", config, *given, f"++checkpoint.save_dir={folder}")
    return folder / "checkpoint_last.pt"


LARGE = {name for name in list_configs() if f"{name.removesuffix('_4m')}_small" in list_configs()}
RECIPES = [name for name in list_configs() if name not in LARGE]  # of two sizes, the small one


@pytest.mark.parametrize("config", RECIPES)
def test_a_recipe_trains_the_same_by_both_commands(succeed, overrides, user_dir, config, tmp_path):
    given, model = overrides(config), compose_config(config)["model"]
    start = [key for key in START if model.get(key.partition(".")[2], "???") != "???"]
    if start:
        first = train(succeed, config, [*given, f"++{start[0]}=null"], tmp_path / "first")
        given = [*given, f"++{start[0]}={first}"]
    by_hydra = train(succeed, config, given, tmp_path / "hydra")
    flags = succeed("mlvl-options", "--config", config, *given).splitlines()
    succeed("fairseq-train", "--user-dir", user_dir, *flags, "--save-dir", tmp_path / "flags")
    assert updates_of(by_hydra) == 2
    assert not differing(by_hydra, tmp_path / "flags" / "checkpoint_last.pt")


def test_an_english_teacher_on_features_of_one_s_own(root, world, succeed, tmp_path, monkeypatch, read_json):
    """The commands of docs/data.md, on fewer captions and for fewer updates."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "captions").symlink_to(world)
    for split in ("train", "valid"):
        names = sorted({row["image"] for row in read_json(world / f"{split}.en.json")})
        np.save(f"{split}.npy", np.random.default_rng(0).standard_normal((len(names), 8)).astype(np.float32))
        Path(f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    page = (root / "docs" / "data.md").read_text(encoding="utf-8")
    block = page.partition("## An English teacher on your own features")[2].split("```")[1].removeprefix("bash")
    smaller = {"fairseq-hydra-train": ["optimization.max_epoch=1", "dataset.num_workers=0"]}
    smaller["mlvl-cll"] = ["--max-update", 2, "--num-workers", 0]
    lines = block.replace("\\\n", " ").replace("en,de,fr", "en,de,ru").strip().splitlines()
    commands = [shlex.split(line) for line in lines]
    for name, *arguments in commands:
        succeed(name, *arguments, *smaller.get(name, ()))
    assert [name for name, *_ in commands] == ["mlvl-prepare", "fairseq-hydra-train", "mlvl-prepare", "mlvl-cll"]
    assert sorted(path.name for path in Path("runs/own/scores/02-ru").glob("*.json")) == [
        f"{lang}.valid.json" for lang in ("de", "en", "ru")
    ]


mlvl_fairseq.register()
ARCHITECTURES = [name for name, model in ARCH_MODEL_REGISTRY.items() if model.__module__.startswith("mlvl_fairseq.")]


def fields_of(architecture):
    """Names of the model's options."""
    return MODEL_DATACLASS_REGISTRY[ARCH_MODEL_NAME_REGISTRY[architecture]].__dataclass_fields__


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_architecture_means_the_same_by_both_commands(architecture):
    chunk = {} if architecture.startswith("image_classifier") else {"encode_chunk": 3}
    line = f"data --task trikd --sentencepiece s --arch {architecture} --criterion trikd".split()
    line += ["--encode-chunk", "3"] * bool(chunk)
    needed = ["--mte", "m"] if "mte" in fields_of(architecture) else []
    args = options.parse_args_and_arch(options.get_training_parser(), [*line, *needed])
    args.max_source_positions = args.max_target_positions = 8
    if architecture.startswith("mte"):
        args.task = "mte_pretraining"
    by_flags = convert_namespace_to_omegaconf(args).model
    given = {"_name": architecture, **chunk, **({"mte": "m"} if needed else {})}
    cfg = OmegaConf.create({"model": given, "task": {"max_source_positions": 8, "max_target_positions": 8}})
    fill_in_architecture(cfg)
    add_defaults(cfg)
    by_hydra = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)["model"]
    assert {key: str(value) for key, value in by_hydra.items()} == {key: str(value) for key, value in by_flags.items()}


def test_another_tower_takes_what_it_has_of_an_architecture():
    cfg = OmegaConf.create({"model": {"_name": "cclm_tiny", "image_tower": "feature_grid"}})
    fill_in_architecture(cfg)
    assert cfg.model.image_width is None and cfg.model.text_width == 32
    cfg = OmegaConf.create({"model": {"_name": "cclm_tiny", "image_tower": "feature_grid", "image_width": 9}})
    fill_in_architecture(cfg)
    assert cfg.model.image_width == 9  # which is refused: it says what nothing has asked for


@pytest.fixture
def teacher_recipe(overrides):
    return ["--config-name", "clip_teacher_small", *overrides("clip_teacher_small")]


@pytest.mark.parametrize("chosen", [
    ["model=clip_tiny_vit"], ["model=clip", "model._name=clip_tiny_vit"],
])  # fmt: skip
def test_an_architecture_as_hydra_s_choice(succeed, corpus, chosen, tmp_path):
    parts = (
        "task=image_text_retrieval criterion=clip_contrastive optimizer=row_adamw lr_scheduler=warmup_constant".split()
    )
    own = ["model.text_layers=1", "optimization.lr=[0.001]", "dataset.batch_size=16", "optimization.max_update=1"]
    output = [f"checkpoint.save_dir={tmp_path / 'run'}", f"hydra.run.dir={tmp_path}", "common.cpu=true"]
    succeed("fairseq-hydra-train", *parts, *chosen, *own, *output, f"task.data={corpus}", "dataset.num_workers=0")
    model = load_checkpoint_file(tmp_path / "run" / "checkpoint_last.pt")["cfg"]["model"]
    assert (model["text_width"], model["image_size"], model["text_layers"]) == (128, 64, 1)


def test_a_training_goes_on_where_it_was(succeed, teacher_recipe, tmp_path):
    for folder, limits in (("parts", (1, 3)), ("whole", (3,))):
        for limit in limits:
            where = [f"++checkpoint.save_dir={tmp_path / folder}", f"++optimization.max_update={limit}"]
            succeed("fairseq-hydra-train", *teacher_recipe, *where)
    last = [tmp_path / folder / "checkpoint_last.pt" for folder in ("parts", "whole")]
    assert updates_of(last[0]) == 3 and not differing(*last)


def test_a_stop_signal_saves_the_running_update(fork, teacher_recipe, tmp_path):
    endless = ["++optimization.max_update=0", "++optimization.max_epoch=10000", "++common.log_interval=1"]
    where = [f"++checkpoint.save_dir={tmp_path / 'run'}", "++dataset.disable_validation=true"]
    process = fork(tmp_path / "log", "fairseq-hydra-train", *teacher_recipe, *endless, *where)
    end = time.monotonic() + 60
    while updates_in(tmp_path / "log") < 3 and time.monotonic() < end:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    process.join(60)
    assert process.exitcode == 128 + signal.SIGTERM
    assert updates_of(tmp_path / "run" / "checkpoint_last.pt") >= 3


def test_a_sweep(succeed, teacher_recipe, tmp_path):
    rates = "optimization.lr=[0.001],[0.002]"
    where = [f"++checkpoint.save_dir={tmp_path}/${{hydra:job.num}}", f"hydra.sweep.dir={tmp_path}"]
    succeed("fairseq-hydra-train", "--multirun", *teacher_recipe, *where, rates)
    configs = [load_checkpoint_file(tmp_path / str(job) / "checkpoint_last.pt")["cfg"] for job in (0, 1)]
    assert [cfg["optimization"]["lr"] for cfg in configs] == [[0.001], [0.002]]


def test_the_plugin_by_a_link_of_another_name_from_another_directory(run_alone, teacher_recipe, user_dir, tmp_path):
    (tmp_path / "link").symlink_to(user_dir)
    given = [text for text in teacher_recipe if "max_update" not in text]
    one = ["++optimization.max_update=1", "hydra.job.chdir=true", "++checkpoint.save_dir=run", "hydra.run.dir=job"]
    ended = run_alone("fairseq-hydra-train", *given, *one, "common.user_dir=link", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert updates_of(tmp_path / "job" / "run" / "checkpoint_last.pt") == 1


@pytest.mark.parametrize("wrong, says", [
    ("model._name=clip_tini", "there is no model 'clip_tini': did you mean clip_tiny"),
    ("task._name=cll_retrival", "there is no task 'cll_retrival': did you mean cll_retrieval"),
    ("+model.foo=3", "model.foo: there is no such option"),
    ("+model.image_feature_dim=wide", "model.image_feature_dim: Value 'wide' of type 'str' could not be"),
    ("optimization.lr=x", "optimization.lr=x"),
    ("+model=clip_tini", "Could not find 'model/clip_tini'"),
    ("no_such.option=1", "Could not override 'no_such.option'"),
    ("task.data=???", "task.data is not given: corpus folder written by mlvl-prepare"),
    ("task.data=nowhere", "nowhere/corpus.json: no such file; no corpus here"),
    ("criterion._name=cross_entropy", "--criterion cross_entropy does not fit --task image_text_retrieval"),
    ("common.user_dir=nowhere", "common.user_dir: there is no folder"),
])  # fmt: skip
def test_user_errors_are_one_line(run, teacher_recipe, wrong, says, tmp_path):
    where = [f"++checkpoint.save_dir={tmp_path / 'run'}", f"hydra.run.dir={tmp_path / 'job'}"]
    assert says in run("fairseq-hydra-train", *teacher_recipe, *where, wrong).error
    assert not list(tmp_path.glob("run/*.pt"))


def test_a_folder_that_cannot_be_made_is_one_line(run, teacher_recipe, tmp_path):
    (tmp_path / "file").touch()
    ended = run("fairseq-hydra-train", *teacher_recipe, f"hydra.run.dir={tmp_path / 'file' / 'job'}")
    assert ended.status == 2 and ended.error == f"Not a directory: {tmp_path / 'file' / 'job'}"


def test_a_model_of_another_task(run, corpus, tmp_path):
    given = [f"task.data={corpus}", "model._name=mte_tiny", f"hydra.run.dir={tmp_path}"]
    error = run("fairseq-hydra-train", "--config-name", "clip_teacher_small", *given).error
    assert "model.max_source_positions is taken from task.max_source_positions" in error


@pytest.mark.parametrize("given", [[], ["task.data=corpus"], ["--multirun", "task.data=a,b"]])
def test_a_config_that_is_not_there(run, given, tmp_path):
    error = run("fairseq-hydra-train", "--config-name", "clip_teach", *given, f"hydra.run.dir={tmp_path}").error
    assert error.startswith("no config clip_teach; there are cclm, cclm_4m, ")


def test_a_config_of_the_user_s_own_folder(run, tmp_path):
    (tmp_path / "own.yaml").write_text("task:\n  _name: cll_retrieval\nmodel:\n  _name: clip_tiny_vit\n")
    own = ["--config-dir", tmp_path, "--config-name", "own", f"hydra.run.dir={tmp_path / 'job'}"]
    error = run("fairseq-hydra-train", *own).error
    assert "task.data, task.lang are not given; task.data: corpus folder" in error
    assert error.endswith("; add +task.data=... +task.lang=...")
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize("given, says", [
    ([], "task.data, task.lang, model.init_from are not given; task.data: corpus folder written by mlvl-prepare; "),
    (["task.lang=en"], "task.data, model.init_from are not given; "),
    (["task.lang=en", "task.data=corpus"], "model.init_from is not given: weights to start from"),
])  # fmt: skip
def test_what_a_recipe_marks_is_needed_before_anything_else(run, given, says, tmp_path):
    where = f"checkpoint.save_dir={tmp_path / 'run'}"
    error = run("fairseq-hydra-train", "--config-name", "cll_small", *given, where, "common.cpu=true").error
    assert says in error
    open_ones = {"task.data", "task.lang", "model.init_from"} - {text.partition("=")[0] for text in given}
    assert set(error.rpartition("; add ")[2].split()) == {f"{key}=..." for key in open_ones}
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("wrong, says", [
    ("task.dta=corpus", "task.dta: there is no such option; did you mean task.data?"),
    ("+task.dta=corpus", "task.dta: there is no such option; did you mean task.data?"),
    ("optimization.max_updates=3", "optimization.max_updates: there is no such option; did you mean optim"),
    ("model.zzz=3", "model.zzz: there is no such option"),
    ("model.encode_chunk=3", "To append to your config use +model.encode_chunk=3"),
])  # fmt: skip
def test_mistyped_options(run, teacher_recipe, wrong, says):
    assert says in run("fairseq-hydra-train", *teacher_recipe, wrong).error


def test_what_flags_leave_open_is_told(run):
    for config, given, left in (
        ("cll_small", [], "DATA --lang LANG --init-from INIT_FROM"),
        ("cll_small", ["task.lang=en"], "DATA --init-from INIT_FROM"),
        ("trikd", ["+task.sentencepiece=x"], "DATA --mte MTE"),
    ):
        ended = run("mlvl-options", "--config", config, *given)
        assert ended.status == 0 and ended.err.endswith(f"still to be given: {left}\n")
        assert "???" not in ended.out and "still" not in ended.out
    given = ["task.data=c", "task.lang=en", "model.init_from=x"]
    assert "still to be given" not in run("mlvl-options", "--config", "cll_small", *given).err


def test_starts_are_silent_but_for_what_comes_at_import(run_alone, user_dir, tmp_path):
    """What fairseq and its imports print before any code of ours is another's."""
    shown = {"PYTHONWARNINGS": "default::UserWarning"}
    hydra = run_alone("fairseq-hydra-train", "--config-name", "cll_small", env=shown, cwd=tmp_path)
    flags = "corpus --task cll_retrieval --arch clip_tiny_vit --criterion cll_clip --batch-size 2".split()
    by_flags = run_alone("fairseq-train", *flags, "--user-dir", user_dir, env=shown, cwd=tmp_path)
    assert (hydra.returncode, by_flags.returncode) == (2, 2)
    assert "JobRuntime" not in hydra.stderr
    assert "are not given" in hydra.stderr.splitlines()[-1]
    assert not re.search("compatability|strict flag|experimental|package header", by_flags.stderr)
    assert by_flags.stderr.splitlines()[-1].startswith(
        "fairseq-train: error: --lang is not given; the language to learn now"
    )


def test_heads_of_recipes_hold_their_command(run):
    listed = run("mlvl-options", "--configs").out
    for name, about in list_configs().items():
        lines = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
        head = " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))
        assert f"fairseq-hydra-train --config-name {name} task." in head and "Gives outputs/" in head
        assert re.search(rf"^{name} +{re.escape(about)}$", listed, re.MULTILINE)


@pytest.mark.parametrize("overlay", sorted(path.stem for path in FOLDER.glob("reference/*.yaml")))
def test_quirks_of_the_published_code_are_options_of_both_sizes(succeed, overlay):
    for config in (overlay, f"{overlay}_small"):
        plain = succeed("mlvl-options", "--config", config).splitlines()
        quirky = succeed("mlvl-options", "--config", config, f"+reference={overlay}").splitlines()
        quirks = {"cclm": "--mask-special", "cclm_retrieval": "--itc-grad", "cclm_which_image": "--stream-form"}
        quirks.update(dict.fromkeys(("cclm_entailment", "cclm_questions"), "--example-form"))
        quirk = quirks.get(overlay, "--frozen-dropout")
        assert quirk in quirky and quirk not in plain
        if overlay.startswith("trikd"):
            assert quirky[quirky.index("--transform") + 1] == "mclip" and "--transform" not in plain
        best = quirky[quirky.index("--best-checkpoint-metric") + 1] if "--best-checkpoint-metric" in quirky else "loss"
        maximized = "--maximize-best-checkpoint-metric" in quirky
        score = {"cclm_retrieval": "r_mean", "cclm_entailment": "accuracy", "cclm_questions": "accuracy"}.get(overlay)
        assert (best, maximized) == ((score, True) if score else ("loss", False))


def test_wrong_configs_are_told(run, tmp_path):
    assert "no config trikt: give a YAML file, or one of cclm, " in run("mlvl-options", "--config", "trikt").error
    (tmp_path / "own.yaml").write_text("task:\n  _name: trikd\n  languages: en\n")
    error = run("mlvl-options", "--config", tmp_path / "own.yaml").error
    assert "own.yaml field 'task.languages': no such option" in error
    (tmp_path / "own.yaml").write_text("task:\n  _name: trikt\n")
    assert "there is no task 'trikt'" in run("mlvl-options", "--config", tmp_path / "own.yaml").error
