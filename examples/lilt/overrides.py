#!/usr/bin/env python
"""Keys of LilT's published configuration as options of ours: python overrides.py train|evaluate KEY=VALUE ...

Prints one word a line, for fairseq-train or mlvl-evaluate. KEY=VALUE is what stands behind `--overrides` of the
published programs: `text_encoder=base`, `always_freeze.text_encoder=[0,1]`, `+save_last_only=True`. The table of
README.md is what `overrides.py table` prints.
"""

import argparse
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence

import yaml

from mlvl_fairseq.checkpoints.lilt_config import LiltConfig, preset_name, published_tower
from mlvl_fairseq.cli.common import run
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.json_files import checked

NO_EFFECT = "nothing to set"


@dataclass(frozen=True)
class Key:
    """A key of the published configuration.

    Attributes:
        default: as published. ours: what it is here, for the table.
        train, evaluate: option of fairseq-train, of mlvl-evaluate, that takes the value; a switch where the value is
            True; None: the key changes nothing there.
        only: the value that is all there is here; None: any.
        structure: what trains and what is added: --preset says it.
    """

    default: str
    ours: str
    train: Optional[str] = None
    evaluate: Optional[str] = None
    only: Any = None
    structure: bool = False


SIDES = "`True`: both towers; `..._image`, `..._text` for `vision_only`, `language_only`"


def _structure(ours: str, default: str = "false") -> Key:
    return Key(default, ours, structure=True)


def _option(default: str, option: str, more: str = "", **others) -> Key:
    return Key(default, f"`{option}`{more}", train=option, **others)


KEYS: Dict[str, Key] = {
    "version": Key("2", f"{NO_EFFECT}; 1 is broken in the published code", only=2),
    "train_file": Key("[pairs.json]", "`mlvl-prepare --train FILE`, once for each (`prepare.sh`)"),
    "image_res": _option("256", "--image-size"),
    "embed_dim": _option("256", "--embed-dim"),
    "batch_size": _option("128", "--batch-size", ", a GPU's"),
    "temp": Key("0.07", "the same; learned, `--temperature clamped`", only=0.07),
    "optimizer.opt": Key("adamW", "`--optimizer grouped_adamw`", only="adamW"),
    "optimizer.lr": _option("1e-4", "--lr"),
    "optimizer.weight_decay": _option("0.02", "--weight-decay"),
    "schedular.sched": Key("cosine", "`--lr-scheduler stepped_cosine`", only="cosine"),
    "schedular.lr": Key("1e-4", f"{NO_EFFECT}: unused, `optimizer.lr` is the peak"),
    "schedular.epochs": _option("15", "--max-epoch"),
    "schedular.min_lr": _option("1e-5", "--min-lr"),
    "schedular.decay_rate": Key("1", "the same", only=1),
    "schedular.warmup_lr": _option("1e-5", "--warmup-init-lr"),
    "schedular.warmup_epochs": _option("10", "--warmup-blocks", " of `--warmup-block-updates 100`"),
    "schedular.cooldown_epochs": Key("0", f"{NO_EFFECT}: unused"),
    "disable_wandb": Key("true", "`--wandb-project NAME` for a run of Weights & Biases"),
    "text_encoder": Key("tiny", "`--text-tower bert_NAME`", train="--text-tower"),
    "vision_encoder": Key("tiny", "`--image-tower vit_NAME`; `large` is `deit3_large`", train="--image-tower"),
    "pretrained_text": Key("true", "`--text-weights`; false: a TEXT folder without weights"),
    "pretrained_vision": Key("true", "`--image-weights`; false: IMAGE_WEIGHTS `none`"),
    "freeze_text_encoder": _structure("`--preset full_image`"),
    "freeze_vision_encoder": _structure("`--preset lit`; both: `proj` or what follows"),
    "freeze_proj": _structure("`--preset ...+no_proj`"),
    "unlock_layernorm": _structure(f"`--preset ln`; {SIDES}"),
    "unlock_dense": _structure("`--preset unlock_dense`"),
    "unlock_attn": _structure("`--preset unlock_attn`"),
    "unlock_random": _structure("`--preset unlock_random`, drawn by `--seed`"),
    "bitfit": _structure(f"`--preset bitfit`; {SIDES}"),
    "add_adapter": _structure("`--preset unlock_last`; with `adapter_append`: `da`"),
    "adapter_append": _structure("`--preset append`; with `add_adapter`: `da`"),
    "conventional_adapter.insert": _structure(f"`--preset lwa`; {SIDES}"),
    "conventional_adapter.reduction_factor": _option("4", "--adapter-reduction"),
    "always_freeze.visual_encoder": _option("[]", "--always-freeze-image", ", as in `0,1,2`"),
    "always_freeze.text_encoder": _option("[]", "--always-freeze-text", ", as in `0,1,2`"),
    "fp16": _option("false", "--amp"),
    "limit_num_samples": _option("false", "--limit-samples"),
    "load_strict": Key("true", f"{NO_EFFECT}: `--init-from` names what does not fit", only=True),
    "model_config.import_path": Key("a class", "`--arch`, by the recipe"),
    "alpha": Key("0", f"{NO_EFFECT}: unused"),
    "save_last_only": Key("absent", "`--no-epoch-checkpoints`, as in the recipe", only=True),
    "val_file": Key("a file", "none: `val` is never used to choose; `mlvl-prepare --valid`"),
    "test_file": Key("a file", "TEST_FILE, `mlvl-evaluate --captions`", evaluate="--captions"),
    "image_root": Key("a folder", "IMAGE_ROOT, `--image-root`", evaluate="--image-root"),
    "save_sims": Key("", f"{NO_EFFECT}: unused"),
    "batch_size_train": Key("32", f"{NO_EFFECT}: unused"),
    "batch_size_test": Key("64", "`mlvl-evaluate --batch-size`", evaluate="--batch-size"),
    "k_test": Key("128", "`mlvl-evaluate --top-k`; by default all candidates count", evaluate="--top-k"),
}
SWITCHES = ("--amp",)


def translate(kind: str, words: Sequence[str]) -> List[str]:
    """Words of ``--overrides`` as options of ours; of one key the last word counts.

    Args:
        kind: ``train`` or ``evaluate``.

    Raises:
        UserError: there is no such key, or nothing here has the value.
    """
    values: Dict[str, Any] = {}
    for word in words:
        key, equals, text = word.removeprefix("+").partition("=")
        if not equals or key not in KEYS:
            raise UserError(f"--overrides {word}: give KEY=VALUE, with a key of the table in examples/lilt/README.md")
        values[key] = _value(key, text)
    options: List[str] = []
    for key, value in values.items():
        option = getattr(KEYS[key], kind)
        if option in SWITCHES:
            options += [option] if value is True else []
        elif option is not None and value not in (False, None, []):
            options += [option, _text(key, value)]
    if kind == "train" and any(KEYS[key].structure for key in values):
        options += ["--preset", _preset(values)]
    return options


def _value(key: str, text: str) -> Any:
    """As Hydra reads it: 1e-4 is a number."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--overrides {key}={text}: no value of YAML") from None
    try:
        value = float(value) if isinstance(value, str) else value
    except ValueError:
        pass
    only = KEYS[key].only
    if only is not None and value != only:
        raise UserError(f"--overrides {key}={text}: there is {only} only")
    return value


def _text(key: str, value: Any) -> str:
    if key in ("text_encoder", "vision_encoder"):
        return published_tower("text" if key == "text_encoder" else "image", str(value))
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _preset(values: Dict[str, Any]) -> str:
    nested: Dict[str, Any] = {}
    for key, value in values.items():
        outer, _, inner = key.partition(".")
        if KEYS[key].structure:
            nested.update({outer: {inner: value}} if inner else {key: value})
    config = checked(nested, LiltConfig, "--overrides")
    insert = config.conventional_adapter.insert if config.conventional_adapter else False
    adapted = {True: ["image", "text"], "vision_only": ["image"], "language_only": ["text"]}.get(insert, [])
    return preset_name(config, adapted, ["image", "text"] if config.adapter_append else [])


def table() -> str:
    """For README.md."""
    rows = [f"| `{key}` | {one.default} | {one.ours} |" for key, one in KEYS.items()]
    return "\n".join(["| key | published default | here |", "|---|---|---|", *rows])


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("train", "evaluate", "table"))
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE")
    args = parser.parse_args(argv)
    print(table() if args.kind == "table" else "\n".join(translate(args.kind, args.words)))


if __name__ == "__main__":
    run(main)
