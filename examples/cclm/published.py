#!/usr/bin/env python
"""Flags and keys of CCLM's published pre-training as options of ours: python published.py TASK FLAG ... [KEY=VALUE ...]

Prints one word a line, for fairseq-train; words like NAME=VALUE before the first option are its environment. FLAG is
one of run.py's (`--dist 1 --epoch 30 --seed 42`), KEY=VALUE, behind --overrides, what stands in Pretrain_3m.yaml, with
dots: `regions.batch_size=64`. What is not among them is refused. The table of README.md is what `published.py table`
prints.
"""

import argparse
import math
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence

import yaml

from mlvl_fairseq.cli.common import run
from mlvl_fairseq.data.data_files import refuse_remote
from mlvl_fairseq.errors import UserError

NO_EFFECT = "nothing to set"
TASKS = {"pretrain_cclm_3m": "3M", "pretrain_cclm_4m": "4M"}
UPDATES = 2  # an iteration of the published code is an update on texts and one on images or regions


@dataclass(frozen=True)
class Key:
    """A key of the published configuration.

    Attributes:
        published: its value, and after a semicolon that of 4M where it is another one. ours: what it is here, for the
            table.
        option: of fairseq-train, takes the value. switch: it takes none, and is given where the value is this one.
        only: the values that are all there are here; None: any. change: value -> what the option takes.
    """

    published: str
    ours: str
    option: Optional[str] = None
    switch: Any = None
    only: Optional[Sequence[Any]] = None
    change: Callable[[Any], Any] = str


def _option(published: str, option: str, more: str = "", **others) -> Key:
    return Key(published, f"`{option}`{more}", option, **others)


def _only(published: str, value: Any, ours: str = "the same") -> Key:
    return Key(published, ours, only=(value,))


def _nothing(published: str, why: str) -> Key:
    return Key(published, f"{NO_EFFECT}: {why}")


def _twice(value: Any) -> str:
    return str(UPDATES * int(value))


def _heads(value: Any) -> str:
    return rf"{value}:crossattention|^(vision|text)_proj\.|^(itm|bbox)_head\.|^temp$"


AS_IMAGES = "as `images`', one option for all"
VISION = {"configs/config_swinB_224.json": "cclm_base", "configs/config_swinB_384.json": "cclm_base_384"}

KEYS: Dict[str, Key] = {
    "train_file": Key("[cc-3m-uc2]; [cc-3m-uc2, sbu-mm, vg-mm, coco-mm]", "IMAGES, `--image-text`: files, with commas"),
    "train_dataset_size": _option("2838361; 5004332", "--epoch-records"),
    "images.image_key": _option("binary", "--image-key", "; by default `binary` or `image`"),
    "images.caption_key": _only("caption", "caption"),
    "images.is_image_rpath": _only("False", False, "`--image-root FOLDER` where files name pictures"),
    "images.tokenized": _option("False", "--tokenized", switch=True),
    "images.batch_size": _option("128", "--image-batch-size"),
    "images.num_workers": _option("4", "--num-workers", ", of all streams"),
    "images.iter_perc": _nothing("1.0", "unused"),
    "images.language_chosen": _option("absent", "--languages", change=lambda value: ",".join(value)),
    "train_file_regions": Key("[]; [coco_object-mm, vg_object-mm, vg_region-mm]", "REGIONS, `--regions`"),
    "regions.image_key": _nothing("binary", AS_IMAGES),
    "regions.is_image_rpath": _only("False", False, AS_IMAGES),
    "regions.caption_key": _only("caption", "caption"),
    "regions.tokenized": _only("False", False, AS_IMAGES),
    "regions.code_switch": _option("False; True", "--code-switch", switch=True),
    "regions.careful_hflip": _option("True", "--no-careful-flip", " where it is False; `--side-words`", switch=False),
    "regions.batch_size": _option("128", "--region-batch-size"),
    "regions.max_images": _option("48", "--region-images"),
    "regions.max_regions": _option("5", "--max-regions"),
    "regions.min_perc_in_image": _option("0.5", "--region-visible"),
    "regions.num_workers": _nothing("2", "`--num-workers` of all streams"),
    "regions.iter_perc": _nothing("-1; absent", "unused; the published coin is `--region-probability 0.5`"),
    "train_file_mono": Key("[]", "`--monolingual FILES`"),
    "images_mono.image_key": _nothing("binary", AS_IMAGES),
    "images_mono.is_image_rpath": _only("False", False, AS_IMAGES),
    "images_mono.caption_key": _only("desc", "desc"),
    "images_mono.tokenized": _only("False", False, AS_IMAGES),
    "images_mono.batch_size": _option("128", "--mono-batch-size"),
    "images_mono.num_workers": _nothing("4", "`--num-workers` of all streams"),
    "images_mono.iter_perc": _option("1.0", "--mono-probability"),
    "train_file_text": Key("[wikimatrix]", "TEXTS, `--parallel-text`"),
    "texts_para.source_key": _option("source_text", "--source-key"),
    "texts_para.target_key": _option("target_text", "--target-key"),
    "texts_para.tokenized": _only("False", False, AS_IMAGES),
    "texts_para.batch_size": _option("128", "--text-batch-size"),
    "texts_para.num_workers": _nothing("4", "`--num-workers` of all streams"),
    "texts_para.iter_perc": _option("1.0", "--text-probability"),
    "texts_para.max_words": _nothing("64", "`--text-max-length` cuts; `--max-words` is of all streams"),
    "texts_para.max_tokens": _option("64", "--text-max-length"),
    "texts_para.mask_prob": _only("0.4", 0.4, "as `mask_prob`, one option for all"),
    "texts_para.max_masks": _option("20", "--text-max-masks"),
    "texts_para.language_chosen": _nothing("absent", "no effect"),
    "use_clip_vit": _option("False", "--arch cclm_clip", " where it is True", switch=True),
    "use_swin": _option("True", "--arch cclm_deit", " where both are False", switch=False),
    "vision_config": _option(
        "configs/config_swinB_224.json", "--arch", only=tuple(VISION), change=lambda value: VISION[value]
    ),
    "image_res": _option("224", "--image-size"),
    "patch_size": _only("32", 32, "the same, by `--image-tower`"),
    "text_encoder": Key("data/xlm-roberta-large", "XLMR: `--tokenizer-folder`, `--text-weights`"),
    "text_num_hidden_layers": _only("12", 12, "`--text-layers 6`, `--fusion-layers 6`"),
    "calc_image_bbox_loss": _option("False", "--whole-image-boxes", switch=True),
    "embed_dim": _option("256", "--embed-dim"),
    "temp": _only("0.07", 0.07, "the same; learned, within bounds (`--temperature clamped`)"),
    "max_words": _option("40", "--max-words"),
    "max_tokens": _option("40", "--max-length"),
    "mask_prob": _option("0.4", "--mask-probability"),
    "max_masks": _option("12", "--max-masks"),
    "mask_whole_word": _only("False", False, f"{NO_EFFECT}: without effect in the published code"),
    "skipgram_prb": _option("0.2", "--mask-span-probability"),
    "skipgram_size": _option("3", "--longest-mask-span"),
    "use_tlm": _only("False", False, "none: an ablation of the paper"),
    "sample_2_captions": _option("False", "--two-captions", switch=True),
    "use_one_cl_proj_only": _option("False", "--one-projection", switch=True),
    "ckpt_frequent_step": _option("50000", "--save-interval-updates", ", twice that: two updates", change=_twice),
    "ckpt_frequent": _option("5", "--save-interval"),
    "optimizer.opt": _only("adamW", "adamW", "`--optimizer grouped_adamw`"),
    "optimizer.lr": _option("1e-4", "--lr"),
    "optimizer.weight_decay": _option("0.01", "--weight-decay"),
    "optimizer.lr_mult": _option("2", "--lr-scales", ", of what is new beside XLM-R and Swin", change=_heads),
    "schedular.sched": _only("linear", "linear", "`--lr-scheduler polynomial_decay`"),
    "schedular.lr": _nothing("1e-4", "unused, `optimizer.lr` is the peak"),
    "schedular.epochs": Key("30", "`--max-update`, `--total-num-update`: two updates an iteration"),
    "schedular.num_warmup_steps": Key("2500", "`--warmup-updates`, twice that; below 1: a share of all"),
    "accelerator.SYNCBN": _only("false", False, f"{NO_EFFECT}: no batch normalisation"),
    "accelerator.FP16_OPT_LEVEL": _only("O1", "O1", "`--amp`"),
    "accelerator.FP16_LOSS_SCALE": _only("dynamic", "dynamic", "the same"),
    "accelerator.RNG_SEED": _nothing("42", "`--seed` is the one seed"),
    "accelerator.GRAD_ACCUMULATE_STEPS": _only("1", 1, "unused; `--update-freq 2` makes one update an iteration"),
    "accelerator.CLIP_GRAD_NORM": _option("1.0", "--clip-norm"),
}
SIZES = ("train_dataset_size", "images.batch_size", "schedular.epochs", "schedular.num_warmup_steps")
DEVICES = {"f4": "0,1,2,3", "l4": "4,5,6,7"}
NOT_HERE = ("config", "model", "load_ckpt_from", "output_hdfs", "evaluate", "fewshot", "gmt")  # of fine-tuning, or HDFS


def read_flags(task: str, words: Sequence[str]) -> argparse.Namespace:
    """Flags of run.py and what follows ``--overrides``.

    Raises:
        UserError: a flag that is none of pre-training, another task, or a path of HDFS.
    """
    parser = argparse.ArgumentParser(prog=task, add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--task")
    parser.add_argument("--dist")
    parser.add_argument("--bs", type=int)
    parser.add_argument("--epoch", type=int)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--checkpoint")
    parser.add_argument("--output_dir")
    for flag in NOT_HERE:
        parser.add_argument(f"--{flag}", nargs="?", const=True)
    parser.add_argument("--overrides", nargs="*", default=[])
    try:
        flags, unknown = parser.parse_known_args(list(words))
    except argparse.ArgumentError as error:
        raise UserError(str(error)) from None
    if unknown:
        raise UserError(f"{unknown[0]} is no flag of the published pre-training; options of fairseq-train follow --")
    for flag in NOT_HERE:
        if getattr(flags, flag):
            refuse_remote(str(getattr(flags, flag)), f"--{flag}")
            raise UserError(f"--{flag}: not of pre-training")
    for flag in ("checkpoint", "output_dir"):
        refuse_remote(getattr(flags, flag) or "", f"--{flag}")
    if flags.task and flags.task != task:
        raise UserError(f"--task {flags.task}: this script is that of {task}")
    if flags.checkpoint and flags.checkpoint.endswith((".th", ".pth")):
        message = f"mlvl-convert cclm {flags.checkpoint} OUT --sentencepiece XLMR"
        raise UserError(f"--checkpoint {flags.checkpoint}: convert it first: {message}")
    return flags


def translate(task: str, words: Sequence[str], whole_schedule: bool = True) -> List[str]:
    """Published words as ours.

    Args:
        task: a key of :data:`TASKS`. whole_schedule: where something changes how many updates there are, say so, from
            the published values of the rest.

    Raises:
        UserError: see :func:`read_flags`; there is no such key, or nothing here has its value.
    """
    flags = read_flags(task, words)
    given = _values(flags.overrides)
    environment, processes, found = _devices(flags.dist)
    if flags.lr:
        given["optimizer.lr"] = flags.lr
    if flags.epoch and flags.epoch > 0:
        given["schedular.epochs"] = flags.epoch
    if flags.bs and flags.bs > 0:
        if flags.bs < processes:
            raise UserError(f"--bs {flags.bs} is the batch of all {processes} processes: give each one row at least")
        for stream in ("images", "regions", "texts_para"):
            given.setdefault(f"{stream}.batch_size", flags.bs // processes)
    for name, option in (("seed", "--seed"), ("checkpoint", "--init-from"), ("output_dir", "--save-dir")):
        if getattr(flags, name) is not None:
            found += [option, str(getattr(flags, name))]
    found += [word for key, value in given.items() for word in _words(key, value)]
    if whole_schedule and (flags.dist or any(key in given for key in SIZES)):
        found += _schedule(task, given, processes)
    elif "schedular.epochs" in given:
        found += ["--max-epoch", str(given["schedular.epochs"])]
    return [*environment, *found]


def _devices(dist: Optional[str]) -> tuple:
    """Environment, number of processes, and options."""
    if dist is None:
        return [], 8, []
    if dist.startswith("gpu") and dist[3:].isdigit():
        return [f"CUDA_VISIBLE_DEVICES={dist[3:]}"], 1, ["--distributed-world-size", "1"]
    if dist in DEVICES:
        return [f"CUDA_VISIBLE_DEVICES={DEVICES[dist]}"], 4, ["--distributed-world-size", "4"]
    if dist == "1":
        return [], 8, ["--distributed-world-size", "8"]
    raise UserError(
        f"--dist {dist}: give 1 (8 GPUs of this machine), f4, l4 or gpuN; for several machines start fairseq-train on "
        "each of them (torchrun)"
    )


def _values(words: Sequence[str]) -> Dict[str, Any]:
    values: Dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or key not in KEYS:
            raise UserError(f"--overrides {word}: give KEY=VALUE, with a key of the table in examples/cclm/README.md")
        try:
            value = yaml.safe_load(text)
            value = float(value) if isinstance(value, str) and text[:1].isdigit() else value  # 1e-4
        except (yaml.YAMLError, ValueError):
            raise UserError(f"--overrides {word}: no value of YAML") from None
        for path in value if isinstance(value, list) else [value]:
            refuse_remote(str(path), f"--overrides {key}")
        only = KEYS[key].only
        if only is not None and value not in only:
            raise UserError(f"--overrides {word}: there is {' or '.join(map(str, only))} only")
        values[key] = value
    return values


def _words(key: str, value: Any) -> List[str]:
    one = KEYS[key]
    if one.option is None:
        return []
    if one.switch is not None:
        return one.option.split() if value == one.switch else []
    return [one.option, one.change(value)]


def published(task: str, key: str) -> Any:
    """The value of a key in the published file of a task."""
    first, _, second = KEYS[key].published.partition("; ")
    return yaml.safe_load(second if second and TASKS[task] == "4M" else first)


def _schedule(task: str, given: Dict[str, Any], processes: int) -> List[str]:
    size, batch, epochs, warmup = (given.get(key, published(task, key)) for key in SIZES)
    iterations = epochs * math.ceil(size / (batch * processes))
    warmup = int(iterations * warmup) if warmup < 1 else warmup
    total = str(UPDATES * iterations)
    return ["--warmup-updates", _twice(warmup), "--total-num-update", total, "--max-update", total]


def table() -> str:
    """For README.md."""
    rows = [f"| `{key}` | {one.published} | {one.ours} |" for key, one in KEYS.items()]
    return "\n".join(["| key | published: 3M; 4M | here |", "|---|---|---|", *rows])


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=(*TASKS, "table"))
    parser.add_argument("--small", action="store_true", help="say no more than is asked for: the recipe is another one")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="FLAG|KEY=VALUE")
    args = parser.parse_args(argv)
    print(table() if args.task == "table" else "\n".join(translate(args.task, args.words, not args.small)))


if __name__ == "__main__":
    run(main)
