"""Pre-training of the published program on streams: the keys of its configuration, and how its flags are ours."""

import math
import os
from typing import Any, ClassVar, Dict, List, Mapping, Sequence

import yaml

from mlvl_fairseq.files import require_file
from published.flags import Call, batch_of_one, devices, shared_values
from published.keys import NO_EFFECT, Key, argument, given_values, markdown, nothing, only, option
from published.shell import Shell
from published.task import Task

NOT_HERE = "not of pre-training"
UPDATES = 2  # an iteration of the published code is an update on texts and one on images or regions


def _twice(value: Any) -> str:
    return str(UPDATES * int(value))


def _heads(value: Any) -> str:
    return rf"{value}:crossattention|^(vision|text)_proj\.|^(itm|bbox)_head\.|^temp$"


AS_IMAGES = "as `images`', one option for all"
VISION = {"configs/config_swinB_224.json": "cclm_base", "configs/config_swinB_384.json": "cclm_base_384"}

KEYS: Dict[str, Key] = {
    "train_file": argument(
        "[cc-3m-uc2]; [cc-3m-uc2, sbu-mm, vg-mm, coco-mm]", "IMAGES, `--image-text`: files, with commas"
    ),
    "train_dataset_size": option("2838361; 5004332", "--epoch-records"),
    "images.image_key": option("binary", "--image-key", "; by default `binary` or `image`"),
    "images.caption_key": only("caption", "caption"),
    "images.is_image_rpath": only("False", False, "`--image-root FOLDER` where files name pictures"),
    "images.tokenized": option("False", "--tokenized", switch=True),
    "images.batch_size": option("128", "--image-batch-size"),
    "images.num_workers": option("4", "--num-workers", ", of all streams"),
    "images.iter_perc": nothing("1.0", "unused"),
    "images.language_chosen": option("absent", "--languages", change=lambda value: ",".join(value)),
    "train_file_regions": argument("[]; [coco_object-mm, vg_object-mm, vg_region-mm]", "REGIONS, `--regions`"),
    "regions.image_key": nothing("binary", AS_IMAGES),
    "regions.is_image_rpath": only("False", False, AS_IMAGES),
    "regions.caption_key": only("caption", "caption"),
    "regions.tokenized": only("False", False, AS_IMAGES),
    "regions.code_switch": option("False; True", "--code-switch", switch=True),
    "regions.careful_hflip": option("True", "--no-careful-flip", " where it is False; `--side-words`", switch=False),
    "regions.batch_size": option("128", "--region-batch-size"),
    "regions.max_images": option("48", "--region-images"),
    "regions.max_regions": option("5", "--max-regions"),
    "regions.min_perc_in_image": option("0.5", "--region-visible"),
    "regions.num_workers": nothing("2", "`--num-workers` of all streams"),
    "regions.iter_perc": nothing("-1; absent", "unused; the published coin is `--region-probability 0.5`"),
    "train_file_mono": argument("[]", "`--monolingual FILES`"),
    "images_mono.image_key": nothing("binary", AS_IMAGES),
    "images_mono.is_image_rpath": only("False", False, AS_IMAGES),
    "images_mono.caption_key": only("desc", "desc"),
    "images_mono.tokenized": only("False", False, AS_IMAGES),
    "images_mono.batch_size": option("128", "--mono-batch-size"),
    "images_mono.num_workers": nothing("4", "`--num-workers` of all streams"),
    "images_mono.iter_perc": option("1.0", "--mono-probability"),
    "train_file_text": argument("[wikimatrix]", "TEXTS, `--parallel-text`"),
    "texts_para.source_key": option("source_text", "--source-key"),
    "texts_para.target_key": option("target_text", "--target-key"),
    "texts_para.tokenized": only("False", False, AS_IMAGES),
    "texts_para.batch_size": option("128", "--text-batch-size"),
    "texts_para.num_workers": nothing("4", "`--num-workers` of all streams"),
    "texts_para.iter_perc": option("1.0", "--text-probability"),
    "texts_para.max_words": nothing("64", "`--text-max-length` cuts; `--max-words` is of all streams"),
    "texts_para.max_tokens": option("64", "--text-max-length"),
    "texts_para.mask_prob": only("0.4", 0.4, "as `mask_prob`, one option for all"),
    "texts_para.max_masks": option("20", "--text-max-masks"),
    "texts_para.language_chosen": nothing("absent", "no effect"),
    "use_clip_vit": option("False", "--arch cclm_clip", " where it is True", switch=True),
    "use_swin": option("True", "--arch cclm_deit", " where both are False", switch=False),
    "vision_config": option(
        "configs/config_swinB_224.json", "--arch", only=tuple(VISION), change=lambda value: VISION[value]
    ),
    "image_res": option("224", "--image-size"),
    "patch_size": only("32", 32, "the same, by `--image-tower`"),
    "text_encoder": argument("data/xlm-roberta-large", "XLMR: `--tokenizer-folder`, `--text-weights`"),
    "text_num_hidden_layers": only("12", 12, "`--text-layers 6`, `--fusion-layers 6`"),
    "calc_image_bbox_loss": option("False", "--whole-image-boxes", switch=True),
    "embed_dim": option("256", "--embed-dim"),
    "temp": only("0.07", 0.07, "the same; learned, within bounds (`--temperature clamped`)"),
    "max_words": option("40", "--max-words"),
    "max_tokens": option("40", "--max-length"),
    "mask_prob": option("0.4", "--mask-probability"),
    "max_masks": option("12", "--max-masks"),
    "mask_whole_word": only("False", False, f"{NO_EFFECT}: without effect in the published code"),
    "skipgram_prb": option("0.2", "--mask-span-probability"),
    "skipgram_size": option("3", "--longest-mask-span"),
    "use_tlm": only("False", False, "none: an ablation of the paper"),
    "sample_2_captions": option("False", "--two-captions", switch=True),
    "use_one_cl_proj_only": option("False", "--one-projection", switch=True),
    "ckpt_frequent_step": option("50000", "--save-interval-updates", ", twice that: two updates", change=_twice),
    "ckpt_frequent": option("5", "--save-interval"),
    "optimizer.opt": only("adamW", "adamW", "`--optimizer grouped_adamw`"),
    "optimizer.lr": option("1e-4", "--lr"),
    "optimizer.weight_decay": option("0.01", "--weight-decay"),
    "optimizer.lr_mult": option("2", "--lr-scales", ", of what is new beside XLM-R and Swin", change=_heads),
    "schedular.sched": only("linear", "linear", "`--lr-scheduler polynomial_decay`"),
    "schedular.lr": nothing("1e-4", "unused, `optimizer.lr` is the peak"),
    "schedular.epochs": Key("30", "`--max-update`, `--total-num-update`: two updates an iteration"),
    "schedular.num_warmup_steps": Key("2500", "`--warmup-updates`, twice that; below 1: a share of all"),
    "accelerator.SYNCBN": only("false", False, f"{NO_EFFECT}: no batch normalisation"),
    "accelerator.FP16_OPT_LEVEL": only("O1", "O1", "`--amp`"),
    "accelerator.FP16_LOSS_SCALE": only("dynamic", "dynamic", "the same"),
    "accelerator.RNG_SEED": nothing("42", "`--seed` is the one seed"),
    "accelerator.GRAD_ACCUMULATE_STEPS": only("1", 1, "unused; `--update-freq 2` makes one update an iteration"),
    "accelerator.CLIP_GRAD_NORM": option("1.0", "--clip-norm"),
}
SIZES = ("train_dataset_size", "images.batch_size", "schedular.epochs", "schedular.num_warmup_steps")
STREAMS = ("images", "regions", "texts_para")
PIECES = ("dict.txt", "sentencepiece.bpe.model")


class Pretraining(Task):
    """Attributes:
    streams: options of ours that take the arguments, in their order, before XLMR and IMAGE_WEIGHTS.
    recipe: of ours, with the published settings.
    number: of its value among those that the keys' `published` separates by semicolons; the first is for all others.
    """

    streams: ClassVar[Sequence[str]]
    recipe: ClassVar[str]
    number: ClassVar[int] = 0
    refused: ClassVar[Mapping[str, str]] = {
        name: NOT_HERE for name in ("config", "model", "load_ckpt_from", "output_hdfs", "evaluate", "fewshot", "gmt")
    }

    def run(self, call: Call, shell: Shell) -> None:
        words = self.translate(call)
        *streams, xlmr, image = call.arguments
        own = [word for stream, path in zip(self.streams, streams) for word in (f"--{stream}", path)]
        own += tokenizer(xlmr)
        if any(os.path.exists(os.path.join(xlmr, name)) for name in ("config.json", "model.pt")):
            own += ["--text-weights", xlmr]
        own += ["--image-weights", image] if image != "none" else []
        quirks = ["+reference=cclm"] if call.reference else []
        recipe = "cclm_small" if call.small else self.recipe
        shell.train(recipe, quirks, [*own, *words, *call.options], devices(call.flags.dist).environment)

    def translate(self, call: Call) -> List[str]:
        """Flags and keys as options of fairseq-train. Where something changes how many updates there are, they say so,
        from the published values of the rest; but for the small recipe.

        Raises:
            UserError: there is no such key, or nothing here has its value.
        """
        flags, found = call.flags, []
        _, processes, device_words = devices(flags.dist)
        given = shared_values(flags, given_values(call.overrides, KEYS))
        batch = batch_of_one(flags, processes)
        for stream in STREAMS if batch else ():
            given.setdefault(f"{stream}.batch_size", batch)
        for name, option_name in (("seed", "--seed"), ("checkpoint", "--init-from"), ("output_dir", "--save-dir")):
            if getattr(flags, name) is not None:
                found += [option_name, str(getattr(flags, name))]
        found += [word for key, value in given.items() for word in KEYS[key].words(value)]
        if not call.small and (flags.dist or any(key in given for key in SIZES)):
            found += self._schedule(given, processes)
        elif "schedular.epochs" in given:
            found += ["--max-epoch", str(given["schedular.epochs"])]
        return [*device_words, *found]

    def published(self, key: str) -> Any:
        """The value of a key in the task's configuration."""
        values = KEYS[key].published.split("; ")
        return yaml.safe_load(values[min(self.number, len(values) - 1)])

    def _schedule(self, given: Dict[str, Any], processes: int) -> List[str]:
        size, batch, epochs, warmup = (given.get(key, self.published(key)) for key in SIZES)
        iterations = epochs * math.ceil(size / (batch * processes))
        warmup = int(iterations * warmup) if warmup < 1 else warmup
        total = str(UPDATES * iterations)
        return ["--warmup-updates", _twice(warmup), "--total-num-update", total, "--max-update", total]


def tokenizer(xlmr: str) -> List[str]:
    """Raises DataError: the folder lacks a file."""
    for name in PIECES:
        require_file(os.path.join(xlmr, name), "give XLM-R's folder, or one that mlvl-sentencepiece wrote")
    return ["--tokenizer-folder", xlmr]


def keys_table() -> str:
    """For README.md."""
    rows = [[f"`{key}`", one.published, one.ours] for key, one in KEYS.items()]
    return markdown(["key", "published: 3M; 4M", "here"], rows)
