"""Configurations of the published fine-tuning, and the keys that they have in common."""

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from published.keys import Key, argument, markdown, nothing, only, option

VISION = {"configs/config_swinB_224.json": "cclm_base", "configs/config_swinB_384.json": "cclm_base_384"}
THERE = "found in the folders that are given"

KEYS: Dict[str, Key] = {
    "train_file": argument("files", THERE),
    "val_file": argument("files", f"{THERE}; `valid_file` in GQA's and NLVR's"),
    "valid_file": argument("files", THERE),
    "test_file": argument("files", THERE),
    "gmt_test_file": argument("files", f"{THERE}, with the flag `gmt`"),
    "image_root": argument("images/", "IMAGES"),
    "batch_size_train": option(None, "--batch-size", ", of a GPU"),
    "batch_size_test": Key(None, "`mlvl-evaluate --batch-size`; by default 64", evaluate="--batch-size"),
    "batch_size_test_text": nothing(None, "`mlvl-evaluate --batch-size` is of both"),
    "vision_config": option(
        "configs/config_swinB_384.json", "--arch", only=tuple(VISION), change=lambda value: VISION[value]
    ),
    "use_swin": only("True", True, "`--arch`"),
    "image_res": option("384", "--image-size"),
    "patch_size": only("32", 32, "the same, by `--image-tower`"),
    "text_encoder": argument("data/xlm-roberta-large", "XLMR: `--tokenizer-folder`"),
    "text_num_hidden_layers": only("12", 12, "`--text-layers 6`, `--fusion-layers 6`"),
    "max_tokens": option(None, "--max-length", "; NLVR has none"),
    "schedular.epochs": Key(None, "`--max-epoch`; the updates follow from it, the batch and the examples"),
    "schedular.num_warmup_steps": Key("0.1", "`--warmup-updates`; below 1: a share of all updates"),
    "schedular.sched": only("linear", "linear", "`--lr-scheduler polynomial_decay`"),
    "schedular.lr": nothing(None, "as `optimizer.lr`"),
    "optimizer.opt": only("adamW", "adamW", "`--optimizer grouped_adamw`"),
    "optimizer.lr": option(None, "--lr"),
    "optimizer.weight_decay": option("0.01", "--weight-decay"),
}
NEW_HEAD = {
    "optimizer.lr_mult": option("2", "--lr-scales", ", of the classifier", change=lambda value: rf"{value}:^cls_head\.")
}
NO_NEW_HEAD = {"optimizer.lr_mult": nothing("2", "nothing is new")}
EVALUATED = {
    "start_eval": Key(None, "`--validate-after-updates`, of so many epochs"),
    "eval_interval": option(None, "--validate-interval", ", of epochs"),
}
PROJECTIONS = {
    "embed_dim": option("256", "--embed-dim"),
    "temp": only("0.07", 0.07, "the same; learned"),
    "use_one_cl_proj_only": option("False", "--one-projection", switch=True),
}
SCHEDULE = ("schedular.epochs", "schedular.num_warmup_steps", "start_eval")  # read together
NUMBERS = {"batch_size_train": 1, "schedular.epochs": 1, "schedular.num_warmup_steps": 0, "start_eval": 0}  # at least
VARYING = (
    "batch_size_train", "batch_size_test", "batch_size_test_text", "max_tokens", "k_test", "schedular.epochs",
    "optimizer.lr", "start_eval", "eval_interval",
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    """A published configuration.

    Attributes:
        values: of keys that configurations differ in, as YAML. words: that texts are cut to, which is no key; 0: none.
        languages: trained on. tests: languages whose test files it names.
    """

    values: Mapping[str, str]
    words: int
    languages: Tuple[str, ...] = ("en",)
    tests: Tuple[str, ...] = ()


def config(
    batches: Sequence[Optional[int]],
    words: int,
    tokens: Optional[int],
    epochs: int,
    *,
    languages: Sequence[str] = ("en",),
    tests: Sequence[str] = (),
    lr: str = "3e-5",
    **others: Any,
) -> Config:
    """A configuration by its numbers.

    Args:
        batches: of training, of testing, and of texts in testing; None: it has none. tokens: None: no limit.
        others: further keys.
    """
    names = ("batch_size_train", "batch_size_test", "batch_size_test_text")
    values = {name: number for name, number in zip(names, batches) if number is not None}
    values.update({"max_tokens": tokens} if tokens else {})
    values.update({"schedular.epochs": epochs, "schedular.num_warmup_steps": 0.1, "optimizer.lr": lr, **others})
    return Config({key: str(value) for key, value in values.items()}, words, tuple(languages), tuple(tests))


def configurations_table(tasks: Mapping[str, Mapping[str, Config]]) -> str:
    """For README.md: a row for each configuration of each task."""
    columns = ["task", "configuration", "trained on", "tests", "words", *(f"`{key}`" for key in VARYING)]
    rows = [
        [
            task,
            f"`{name}`",
            " ".join(one.languages) if one.tests else "LANG",
            " ".join(one.tests) or "LANG",
            str(one.words),
            *(one.values.get(key, "") for key in VARYING),
        ]
        for task, configs in tasks.items()
        for name, one in configs.items()
    ]
    return markdown(columns, rows)


def keys_table(tasks: Mapping[str, Mapping[str, Key]]) -> str:
    """For README.md: a row for each key, and for each way in which it is understood, with the tasks that have it."""
    of: Dict[Tuple[str, str, str], list] = {}
    for task, keys in tasks.items():
        for key, one in keys.items():
            published = one.published or "as above"
            of.setdefault((key, published, one.ours), []).append(task)
    rows = [
        [f"`{key}`", "all" if len(names) == len(tasks) else ", ".join(names), published, ours]
        for (key, published, ours), names in of.items()
    ]
    return markdown(["key", "of", "published", "here"], rows)
