"""Released checkpoints of LilT as ours: towers, presets and the published preparation of texts and pictures, found from
the names and shapes of tensors; what the file's own configuration says has to agree."""

import logging
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Mapping, Optional, Tuple

from mlvl_fairseq.checkpoints.archive import save_checkpoint
from mlvl_fairseq.checkpoints.check import check_tensors
from mlvl_fairseq.checkpoints.formats.lilt import FoundTower, LiltFile, read_lilt
from mlvl_fairseq.checkpoints.lilt_config import ONE_TOWER, PUBLISHED, preset_name, published_tower
from mlvl_fairseq.data.text.wordpiece import WordPieceTokenizer
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.modules.towers.base import IMAGE_TOWERS, TEXT_TOWERS, TowerKind, known, tower_config
from mlvl_fairseq.networks.dual_encoder import DualEncoderNetwork, DualEncoderOptions, TowerConfigs, dimension_names
from mlvl_fairseq.networks.peft import LoraOptions, PeftOptions

logger = logging.getLogger(__name__)

NAME = "lilt.pt"
TOWERS: Dict[str, Dict[str, TowerKind]] = {"image": IMAGE_TOWERS, "text": TEXT_TOWERS}
NO_ADAPTERS = "base_dino"  # the published code builds none there, whatever the configuration says
CLEANING = "lilt"
TASK = {"_name": "image_text_retrieval", "cleaning": CLEANING, "no_end_token": True}
LENGTHS = {"max_length": 25, "eval_max_length": 30}  # with the first token
MODEL = {"_name": "dual_encoder", "transform": "lilt", "temperature": "clamped", "frozen_dropout": True}
NO_TOKEN_TYPES = {"text_token_types": "drop"}


def convert_lilt(
    path,
    folder,
    wordpiece,
    image_tower: Optional[str] = None,
    text_tower: Optional[str] = None,
    image_heads: Optional[int] = None,
    text_heads: Optional[int] = None,
) -> Path:
    """Write ``lilt.pt``, which holds all weights and the tokenizer.

    Args:
        path: the released checkpoint. folder: made if it is not there.
        wordpiece: folder of the tokenizer of its text tower.
        image_tower, text_tower: names of towers, where neither the configuration nor the widths tell them.
        image_heads, text_heads: of attention, where the towers' widths are none of the published ones.

    Returns:
        the path of ``lilt.pt``.

    Raises:
        DataError: the file is no such checkpoint, or its tensors and its configuration do not fit together.
        UserError: the options do not fit it, or the tokenizer does not.
    """
    file = read_lilt(path)
    tokenizer = WordPieceTokenizer.load(wordpiece).prepared(CLEANING, ends_texts=False)
    rows = file.text.dimensions["vocab_size"]
    if len(tokenizer) != rows:
        raise UserError(f"--wordpiece {wordpiece} has {len(tokenizer):,} tokens, the text tower of {path} {rows:,}")
    options = {**options_of(file, image_tower, text_tower, image_heads, text_heads), **NO_TOKEN_TYPES}
    configs, every = configs_of(options, rows)
    check_tensors(path, "a dual encoder as found", lambda: DualEncoderNetwork.of_options(every, configs), file.tensors)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "cfg": {"model": {**MODEL, **options}, "task": {**TASK, **LENGTHS, "tokenizer_folder": str(wordpiece)}},
        "model": file.tensors,
        "task_state": tokenizer.checkpoint_state(),
    }
    save_checkpoint(content, folder / NAME)
    total = sum(tensor.numel() for tensor in file.tensors.values())
    epoch = "" if file.epoch is None else f", epoch {file.epoch + 1}"
    given = ", ".join(f"{name} {value}" for name, value in options.items())
    logger.info("%s: %s parameters%s: %s", path, f"{total:,}", epoch, given)
    return folder / NAME


def configs_of(options: Mapping[str, Any], vocab_size: int) -> Tuple[TowerConfigs, Any]:
    """The towers behind :func:`options_of`, and all options of the model."""
    values: Dict[str, Any] = {}
    for part in (DualEncoderOptions(), PeftOptions(), LoraOptions()):
        values.update({one.name: getattr(part, one.name) for one in fields(part)})
    every = SimpleNamespace(**{**values, **MODEL, **options})
    return TowerConfigs.of_options(every, vocab_size), every


def options_of(
    file: LiltFile,
    image_tower: Optional[str] = None,
    text_tower: Optional[str] = None,
    image_heads: Optional[int] = None,
    text_heads: Optional[int] = None,
) -> Dict[str, Any]:
    """The model's options that differ from ours by default; see :func:`convert_lilt`.

    Raises:
        DataError: tensors and configuration do not fit together. UserError: options do not fit the file.
    """
    config, said = file.config, file.config.conventional_adapter
    projection = file.tensors.get("vision_proj.weight")
    if projection is None or projection.dim() != 2:
        raise DataError("tensor is missing or no matrix", file.source, field="vision_proj.weight")
    options: Dict[str, Any] = {"embed_dim": len(projection)}
    _agree(file, "embed_dim", config.embed_dim, len(projection))
    _agree(file, "image_res", config.image_res, file.image.dimensions["image_size"])
    appended = []
    for side, given, heads in (("image", image_tower, image_heads), ("text", text_tower, text_heads)):
        name, dimensions, more = _tower(file, side, given, heads)
        options.update({f"{side}_tower": name, **dimensions})
        appended += [side] if more else []
    adapted = [side for side in TOWERS if getattr(file, side).bottleneck is not None]
    _compare_adapters(file, adapted)
    if adapted:
        options["adapter_reduction"] = _reduction(file, adapted, said and said.reduction_factor)
    options["preset"] = preset_name(config, adapted, appended)
    for side, blocks in (("image", "visual_encoder"), ("text", "text_encoder")):
        numbers = getattr(config.always_freeze, blocks, None)
        if numbers:
            options[f"always_freeze_{side}"] = ",".join(map(str, numbers))
    return options


def _tower(file: LiltFile, side: str, given: Optional[str], heads: Optional[int]) -> Tuple[str, Dict[str, int], bool]:
    """Name of a tower, options of those dimensions that are not its own, and whether its last block was appended."""
    found: FoundTower = getattr(file, side)
    towers, width, layers = TOWERS[side], found.dimensions["width"], found.dimensions["layers"]
    field = PUBLISHED[side][0]
    said = getattr(file.config, field)
    name = given or (published_tower(side, said) if said else _by_size(side, found))
    if name not in known(towers) or towers[name].config is not found.kind:
        fitting = ", ".join(one for one in known(towers) if towers[one].config is found.kind)
        where = f"--{side}-tower {name}" if given or not said else f"config.{field} {said}"
        raise UserError(f"{file.source}: {where} is not what its tensors are: one of {fitting}")
    own = tower_config(towers, f"--{side}-tower", name)
    append = file.config.adapter_append
    if append is None:
        append = (width, layers) == (own.width, own.layers + 1)
    elif side == "text":
        append = append and file.config.pretrained_text
    if said and not given and (width, layers - append) != (own.width, own.layers):
        message = f"is {said}, a tower of {own.layers} blocks of width {own.width}"
        message += ", with adapter_append one more" if append else ""
        raise DataError(f"{message}; the tensors are {layers} of width {width}", file.source, field=f"config.{field}")
    if width != own.width and heads is None:
        raise UserError(
            f"{file.source}: the {side} tower has width {width}, {name} {own.width}: tensors do not show how many "
            f"attention heads there are; give --{side}-heads"
        )
    usual = tower_config(towers, f"--{side}-tower", name, width=width)  # what follows from the width
    wanted = {**found.dimensions, "layers": layers - append, **({"heads": heads} if heads else {})}
    options = {}
    for option, field in dimension_names(side, towers[name]).items():
        if field in wanted and wanted[field] != getattr(own if field == "width" else usual, field):
            options[option] = wanted[field]
    return name, options, append


def _by_size(side: str, found: FoundTower) -> str:
    """The first of the published towers of this kind and size; several may be the same tower in other files."""
    towers = TOWERS[side]
    known(towers)
    kinds = [name for name, kind in towers.items() if kind.config is found.kind]
    own = {name: tower_config(towers, f"--{side}-tower", name) for name in kinds}
    fitting = [name for name in kinds if own[name].width == found.dimensions["width"]]
    same_words = [n for n in fitting if getattr(own[n], "vocab_size", None) == found.dimensions.get("vocab_size")]
    return next(iter(same_words + fitting + kinds))


def _compare_adapters(file: LiltFile, adapted: List[str]) -> None:
    """Raises DataError: a tower has adapters and the configuration does not say so, or the other way round."""
    said = file.config.conventional_adapter
    if said is None:
        return
    wanted = [side for side in TOWERS if said.insert is True or ONE_TOWER.get(str(said.insert)) == f"_{side}"]
    left_out = {"image": file.config.vision_encoder == NO_ADAPTERS, "text": not file.config.pretrained_text}
    for side in TOWERS:
        expected = side in wanted and not left_out[side]
        if expected != (side in adapted):
            there = "has adapters" if side in adapted else "has none"
            raise DataError(
                f"is {said.insert}, and the {side} tower {there}",
                file.source,
                field="config.conventional_adapter.insert",
            )


def _reduction(file: LiltFile, adapted: List[str], said: Optional[int]) -> int:
    """What the widths are divided by. Raises DataError: no number gives all bottlenecks, or another than is said."""
    sizes = [(found.dimensions["width"], found.bottleneck) for found in (getattr(file, side) for side in adapted)]
    if said is None:
        numbers = range(1, max(width for width, _ in sizes) + 1)
        said = next((n for n in numbers if all(width // n == dims for width, dims in sizes)), None)
    if said is None or any(width // said != dims for width, dims in sizes):
        found = " and ".join(f"{dims} dimensions at width {width}" for width, dims in sizes)
        field = "config.conventional_adapter.reduction_factor"
        raise DataError(f"is {said or 'not there'}, and the adapters have {found}", file.source, field=field)
    return said


def _agree(file: LiltFile, field: str, said: Optional[int], found: int) -> None:
    if said is not None and said != found:
        raise DataError(f"is {said}, and the tensors show {found}", file.source, field=f"config.{field}")
