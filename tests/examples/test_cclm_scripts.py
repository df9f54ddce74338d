"""The scripts of examples/cclm: which commands they give, and that the published flags and keys have their options.

fairseq-train is replaced by a command that writes down how it was called; each line is read by the real parser.
"""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fairseq import options

import mlvl_fairseq
from mlvl_fairseq.errors import UserError

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "cclm"
PLUGIN = Path(mlvl_fairseq.__file__).parent
RECORD = """#!{python} -IS
import json, os, sys
with open({log!r}, "a") as log:
    print(json.dumps([os.environ.get("CUDA_VISIBLE_DEVICES"), *sys.argv]), file=log)
"""
# Every key of Pretrain_3m.yaml and Pretrain_4m.yaml.
PUBLISHED_KEYS = """train_file train_dataset_size images.image_key images.caption_key images.is_image_rpath
    images.tokenized images.batch_size images.num_workers images.iter_perc images.language_chosen train_file_regions
    regions.image_key regions.is_image_rpath regions.caption_key regions.tokenized regions.code_switch
    regions.careful_hflip regions.batch_size regions.max_images regions.max_regions regions.min_perc_in_image
    regions.num_workers regions.iter_perc train_file_mono images_mono.image_key images_mono.is_image_rpath
    images_mono.caption_key images_mono.tokenized images_mono.batch_size images_mono.num_workers images_mono.iter_perc
    train_file_text texts_para.source_key texts_para.target_key texts_para.tokenized texts_para.batch_size
    texts_para.num_workers texts_para.iter_perc texts_para.max_words texts_para.max_tokens texts_para.mask_prob
    texts_para.max_masks texts_para.language_chosen use_clip_vit use_swin vision_config image_res patch_size
    text_encoder text_num_hidden_layers calc_image_bbox_loss embed_dim temp max_words max_tokens mask_prob max_masks
    mask_whole_word skipgram_prb skipgram_size use_tlm sample_2_captions use_one_cl_proj_only ckpt_frequent_step
    ckpt_frequent optimizer.opt optimizer.lr optimizer.weight_decay optimizer.lr_mult schedular.sched schedular.lr
    schedular.epochs schedular.num_warmup_steps accelerator.SYNCBN accelerator.FP16_OPT_LEVEL
    accelerator.FP16_LOSS_SCALE accelerator.RNG_SEED accelerator.GRAD_ACCUMULATE_STEPS
    accelerator.CLIP_GRAD_NORM""".split()


@pytest.fixture(scope="module")
def translate(published_program):
    """``translate(task, *words, small=False)``: options of fairseq-train."""

    def words_of(task, *words, small=False):
        one = published_program.task_named(task)
        call = one.read([*one.arguments, *words])
        return one.translate(replace(call, small=small))

    return words_of


@pytest.fixture
def train(stubs, tmp_path, root):
    """``train(script, *arguments, **environment)``: visible GPUs, and fairseq-train's options."""
    stubs.add("fairseq-train", RECORD.format(python=sys.executable, log=str(stubs.log)))
    stubs.add("mlvl-path", f"#!/bin/sh\necho {PLUGIN}\n")
    stubs.add("python", f'#!/bin/sh\nPYTHONPATH={root} exec {sys.executable} "$@"\n')
    for name, files in {"xlmr": ["config.json"], "pieces": []}.items():
        (tmp_path / name).mkdir()
        for file in (*files, "dict.txt", "sentencepiece.bpe.model"):
            (tmp_path / name / file).touch()
    (tmp_path / "first.pt").touch()

    def script(name, *arguments, **environment):
        _, lines = stubs.run(FOLDER / name, *arguments, **environment)
        return [(gpus, read(words)) for gpus, _, *words in lines]

    return script


def read(words):
    return options.parse_args_and_arch(options.get_training_parser(), words)


def test_published_settings(train):
    ((gpus, args),) = train("pretrain_3m.sh", "cc3m", "wiki", "xlmr", "swin.pth", "--dist", "1", "--output_dir", "out")
    assert gpus is None and args.distributed_world_size == 8 and args.save_dir == "out"
    assert (args.image_text, args.parallel_text, args.regions) == ("cc3m", "wiki", "")
    assert (args.tokenizer_folder, args.text_weights, args.image_weights) == ("xlmr", "xlmr", "swin.pth")
    assert (args.arch, args.batch_size, args.lr, args.max_update) == ("cclm_base", 128, [1e-4], 166_320)
    assert (args.warmup_updates, int(args.total_num_update), args.epoch_records) == (5000, 166_320, 2_838_361)
    assert args.positives == "masked" and args.stream_form == "fixed"
    arguments = ("imgs", "boxes", "wiki", "xlmr", "swin.pth", "--task", "pretrain_cclm_4m")
    ((_, args),) = train("pretrain_4m.sh", *arguments, PRESET="reference")
    assert (args.image_text, args.regions, args.parallel_text, args.code_switch) == ("imgs", "boxes", "wiki", True)
    assert (args.max_update, args.epoch_records, args.stream_form) == (293_280, 5_004_332, "reference")


def test_flags_and_keys(train):
    flags = "--task pretrain_cclm_3m --dist gpu2 --bs 64 --epoch 3 --lr 3e-5 --checkpoint first.pt --seed 9".split()
    keys = "--overrides train_dataset_size=6400 schedular.num_warmup_steps=0.1 regions.careful_hflip=False".split()
    files = ("cc3m", "wiki", "xlmr", "swin.pth")
    ((gpus, args),) = train("pretrain_3m.sh", *files, *flags, *keys, "optimizer.lr_mult=3", "--", "--cpu")
    assert gpus == "2" and args.distributed_world_size == 1 and args.cpu
    assert (args.seed, args.init_from, args.lr) == (9, "first.pt", [3e-5])
    assert (args.image_batch_size, args.region_batch_size, args.text_batch_size) == (64, 64, 64)
    assert (args.max_update, int(args.total_num_update), args.warmup_updates) == (
        600,
        600,
        60,
    )  # 3 x 100 iterations of two
    assert args.no_careful_flip and args.lr_scales.startswith("3:crossattention|")


def test_the_small_recipe_says_no_more_than_it_is_asked(train):
    ((_, args),) = train("pretrain_3m.sh", "a", "b", "pieces", "none", "--epoch", "4", RECIPE="small")
    assert (args.arch, args.max_epoch, args.max_update, args.epoch_records) == ("cclm_nano", 4, 2000, 0)
    assert args.tokenizer_folder == "pieces" and not (hasattr(args, "text_weights") or hasattr(args, "image_weights"))


@pytest.mark.parametrize(
    "words, says",
    [
        ("--output_dir hdfs://harunava/x", "--output_dir hdfs://harunava/x: hdfs is not read from here; copy it first"),
        ("--checkpoint hdfs://m.th", "--checkpoint hdfs://m.th: hdfs is not read from here"),
        ("--output_hdfs hdfs://x", "--output_hdfs hdfs://x: hdfs is not read from here"),
        ("--overrides train_file=[hdfs://a]", "--overrides train_file hdfs://a: hdfs is not read"),
        ("--batch 3", "--batch is no flag of the published run.py; options of our commands follow --"),
        ("--task pretrain_cclm_4m", "--task pretrain_cclm_4m: this script is that of pretrain_cclm_3m"),
        ("--task gqa", "--task gqa: this script is that of pretrain_cclm_3m"),
        ("--fewshot ar,48", "--fewshot: not of pre-training"),
        ("--evaluate", "--evaluate: not of pre-training"),
        ("--overrides text_encoder=x", "--overrides text_encoder=x: here it is XLMR"),
        ("--checkpoint model_state_epoch_29.th", "convert it first: mlvl-convert cclm model_state_epoch_29.th OUT"),
        ("--dist all", "--dist all: give 1 (8 GPUs of this machine), f4, l4 or gpuN"),
        ("--dist 1 --bs 4", "--bs 4 is the batch of all 8 processes"),
        ("--epoch many", "invalid int value: 'many'"),
        ("--overrides temp=0.1", "--overrides temp=0.1: there is 0.07 only"),
        ("--overrides novel=1", "--overrides novel=1: give KEY=VALUE, with a key of the table"),
    ],
)
def test_what_is_refused_is_one_line(translate, words, says):
    with pytest.raises(UserError, match=re.escape(says)) as refused:
        translate("pretrain_cclm_3m", *words.split())
    assert "\n" not in str(refused.value)


def test_files_are_asked_for(train):
    train("pretrain_3m.sh", "a", "b", "xlmr", "none", "--batch", "3", status=2, says="--batch is no flag of the publ")
    train("pretrain_4m.sh", "a", "b", status=2, says="usage: pretrain_4m.sh IMAGE_TEXT REGIONS PARALLEL_TEXT XLMR")
    train("pretrain_3m.sh", "a", "b", "nowhere", "none", status=2, says="nowhere/dict.txt: no such file; give")


@pytest.mark.parametrize("script", sorted(path.name for path in FOLDER.glob("*.sh") if path.name != "lib.sh"))
def test_help(stubs, script):
    output, lines = stubs.run(FOLDER / script, "--help")
    assert output.startswith("CCLM") and "usage: bash examples/cclm/" in output and not lines


def test_every_task_has_a_script(published_program):
    for name, task in published_program.TASKS.items():
        text = (FOLDER / task.script).read_text(encoding="utf-8")
        assert f'\npublished {name} "$@"\n' in text and f"--task {name} " in text
        assert f"{task.script} {' '.join(task.arguments)} [FLAG...]" in text


def test_the_tables_have_every_published_key(published_program):
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    for table in published_program.tables().split("\n\n"):
        assert table in page
    rows = re.findall(r"^\| `([\w.]+)` \|", published_program.tables().split("\n\n")[0], re.M)
    assert sorted(rows) == sorted(PUBLISHED_KEYS)


def test_every_option_of_the_table_takes_its_value(translate, published_program):
    """By fairseq-train's parser; that the page names no other options is tested with all documentation."""
    values = {"images.language_chosen": "[en,de]", "vision_config": "configs/config_swinB_384.json"}
    task = ["--user-dir", str(PLUGIN), "--task", "cclm_pretraining", "--arch", "cclm", "--criterion"]
    task += "cclm_pretraining --optimizer grouped_adamw --lr-scheduler polynomial_decay".split()
    for key, one in sys.modules["published.pretraining"].KEYS.items():
        if one.option:
            value = one.switch if one.switch is not None else 7
            words = translate("pretrain_cclm_3m", "--overrides", f"{key}={values.get(key, value)}", small=True)
            assert words[: len(one.option.split())] == one.option.split()
            read([*task, *words])
            if one.switch is not None:
                assert not translate("pretrain_cclm_3m", "--overrides", f"{key}={not one.switch}", small=True)


def test_texts_of_streams_are_all_of_them(root, tmp_path):
    rows = [
        {"image": "a.png", "caption": [{"en": "one", "de": "zwei\n  drei"}]},
        {"image": "a.png", "elems": [{"bb": [0, 0, 1, 1], "caption": {"en": "four"}, "attributes": {"en": "five"}}]},
        {"source_text": "six", "target_text": "seven"},
        {"image": "a.png", "desc": ["eight"]},
    ]
    file = tmp_path / "all.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    command = [sys.executable, str(FOLDER / "stream_texts.py"), str(file)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(root)}).stdout
    assert told.split("\n") == ["one", "zwei drei", "four", "five", "six", "seven", "eight", ""]
