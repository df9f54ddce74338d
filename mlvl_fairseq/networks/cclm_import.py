"""Released checkpoints of CCLM and X-VLM as ours: towers, fusion encoder and heads are found from the names and shapes
of tensors; what the file's own configuration says has to agree."""

import logging
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Mapping, Optional, Tuple

import torch

from mlvl_fairseq.checkpoints.archive import save_checkpoint
from mlvl_fairseq.checkpoints.check import check_tensors, without_values
from mlvl_fairseq.checkpoints.formats.cclm import CROSS, CclmFile, image_width, read_cclm
from mlvl_fairseq.checkpoints.source import Tensors, add_prefix, count_layers, take_prefix
from mlvl_fairseq.checkpoints.towers.base import resized
from mlvl_fairseq.data.text.base import Tokenizer
from mlvl_fairseq.data.text.sentencepiece import SentencePieceTokenizer
from mlvl_fairseq.data.text.wordpiece import WordPieceTokenizer
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.modules.towers.base import IMAGE_TOWERS, TEXT_TOWERS, TowerKind, known, tower_config
from mlvl_fairseq.modules.towers.bert import STD, BertConfig
from mlvl_fairseq.modules.towers.cclm_text import CclmTextConfig
from mlvl_fairseq.modules.towers.swin import SwinConfig
from mlvl_fairseq.networks.cclm import CclmNetwork
from mlvl_fairseq.networks.cclm_heads import HEADS, is_beside_contrast
from mlvl_fairseq.networks.dual_encoder import TowerConfigs, dimension_names, stage_numbers

logger = logging.getLogger(__name__)

NAME = "cclm.pt"
TOWERS: Dict[str, Dict[str, TowerKind]] = {"image": IMAGE_TOWERS, "text": TEXT_TOWERS}
CLEANING = "cclm"
TASK = {"_name": "image_text_retrieval", "cleaning": CLEANING}
LENGTH = 40  # tokens of a caption, with <s> and </s>
# What the published evaluation does to the texts of what was fine-tuned; no length: they are not cut to tokens.
QUESTIONS = {"cleaning": "cclm_question", "max_words": 50, "max_length": None}
STATEMENTS = {"max_words": 30, "max_length": None}
HYPOTHESES = {"max_words": 80, "max_length": 80}
MODEL = {"_name": "cclm", "transform": "lilt", "temperature": "clamped"}
PUBLISHED_HEADS = {1024: 16, 768: 12}  # width of a text encoder -> attention heads
PUBLISHED_CLASSES = {2: ("False", "True"), 3: ("contradiction", "entailment", "neutral")}  # of NLVR2 and XVNLI
KEPT_TYPES = {"text_token_types": "keep"}  # of a BERT: as CCLM's own text tower has them


def convert_cclm(path, folder, sentencepiece=None, wordpiece=None, text_heads: Optional[int] = None) -> Path:
    """Write ``cclm.pt``, which holds all weights; beside it a SentencePiece folder is needed, a WordPiece tokenizer is
    in it.

    Args:
        path: the released checkpoint. folder: made if it is not there.
        sentencepiece: XLM-R's folder, for a CCLM. wordpiece: BERT's folder, for an X-VLM.
        text_heads: attention heads of the text encoder, where its width is none of the published ones.

    Returns:
        the path of ``cclm.pt``.

    Raises:
        DataError: the file is no such checkpoint, or its tensors and its configuration do not fit together.
        UserError: the options do not fit it, or the tokenizer does not.
    """
    file = read_cclm(path)
    kind = CclmTextConfig if sentencepiece else BertConfig
    options = options_of(file, kind, text_heads)
    task = {**TASK, "max_length": LENGTH, **_texts(options)}
    if task["max_length"] is not None:
        task["max_length"] = file.said.max_tokens or task["max_length"]
    tokenizer, where = _tokenizer(file, sentencepiece, wordpiece, task["cleaning"])
    configs, every = configs_of(options, len(tokenizer))
    build = partial(CclmNetwork.of_options, every, configs)
    tensors = _with_maps_of_texts(file)
    tower = "visual_encoder."
    tensors.update(add_prefix(resized(take_prefix(tensors, tower), configs.image, path), tower))  # adds the indices
    check_tensors(path, "a CCLM as found", build, tensors)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "cfg": {
            "model": {**MODEL, **options},
            "task": {**task, "tokenizer_folder": str(where)},
        },
        "model": tensors,
        "task_state": {**tokenizer.checkpoint_state(), **_classes(options, path)},
    }
    save_checkpoint(content, folder / NAME)
    total = sum(parameter.numel() for parameter in without_values(build).parameters())
    logger.info(
        "%s: %s parameters: %s", path, f"{total:,}", ", ".join(f"{one} {said}" for one, said in options.items())
    )
    logger.info("%s: left out %d tensors that follow from others", path, len(file.dropped))
    if file.token_types > 1:
        logger.info("%s: left out %d rows of token types that are not used", path, file.token_types - 1)
    return folder / NAME


def _texts(options: Mapping[str, Any]) -> Dict[str, Any]:
    """How texts are read that a fine-tuned model is asked about."""
    heads = options["heads"].split(",")
    if "answers" in heads:
        return QUESTIONS
    if "labels" in heads:
        return STATEMENTS if options.get("images_per_text", 1) > 1 else HYPOTHESES
    return {}


def _tokenizer(file: CclmFile, sentencepiece, wordpiece, cleaning: str) -> Tuple[Tokenizer, Any]:
    rows = file.text["vocab_size"]
    if bool(sentencepiece) == bool(wordpiece):
        raise UserError(
            f"{file.source} reads texts with {rows:,} tokens: give --sentencepiece FOLDER of xlm-roberta-large (CCLM) "
            "or --wordpiece FOLDER of bert-base-uncased (X-VLM)"
        )
    kind, option = (SentencePieceTokenizer, "sentencepiece") if sentencepiece else (WordPieceTokenizer, "wordpiece")
    where = sentencepiece or wordpiece
    tokenizer = kind.load(where).prepared(cleaning)
    if len(tokenizer) != rows:
        raise UserError(f"--{option} {where} has {len(tokenizer):,} tokens, the text encoder of {file.source} {rows:,}")
    return tokenizer, where


def _classes(options: Mapping[str, Any], path) -> Dict[str, List[str]]:
    """What the rows of head ``labels`` stand for, which the file does not say."""
    count = options.get("num_labels", 0)
    if not count:
        return {}
    if count not in PUBLISHED_CLASSES:
        logger.warning("%s: does not say what its %d classes are: they are numbers here", path, count)
    classes = PUBLISHED_CLASSES.get(count) or [str(number) for number in range(count)]
    return {"classes": list(classes)}


def configs_of(options: Mapping[str, Any], vocab_size: int) -> Tuple[TowerConfigs, Any]:
    """The towers behind :func:`options_of`, and all options of the model."""
    values: Dict[str, Any] = {}
    for part in CclmNetwork.own_options:
        values.update({one.name: getattr(part(), one.name) for one in fields(part)})
    every = SimpleNamespace(**{**values, **MODEL, **options})
    return TowerConfigs.of_options(every, vocab_size), every


def options_of(file: CclmFile, text_kind: type, text_heads: Optional[int] = None) -> Dict[str, Any]:
    """The model's options that differ from ours by default.

    Args:
        text_kind: config of the text tower. text_heads: see :func:`convert_cclm`.

    Raises:
        DataError: tensors and configuration do not fit together. UserError: options do not fit the file.
    """
    width = file.text["width"]
    heads = text_heads or PUBLISHED_HEADS.get(width)
    if heads is None:
        raise UserError(
            f"{file.source}: the text encoder has width {width}, the published ones "
            f"{' and '.join(map(str, sorted(PUBLISHED_HEADS)))}: tensors do not show how many attention heads there "
            "are; give --text-heads"
        )
    there = [name for name, kind in HEADS.items() if any(one.startswith(f"{kind.attribute}.") for one in file.tensors)]
    return {
        **_projections(file, is_beside_contrast(",".join(there))),
        **_fine_tuned(file),
        "fusion_layers": file.fusion_layers,
        "heads": ",".join(there),
        "image_drop_path": 0.1,
        **_nearest("image", SwinConfig, file.image),
        **_nearest("text", text_kind, {**file.text, "heads": heads}),
        **(KEPT_TYPES if text_kind is BertConfig else {}),
    }


def _projections(file: CclmFile, needed: bool) -> Dict[str, Any]:
    """Options of what takes texts and images into one space; fine-tuned models need not have it."""
    name = "text_proj.weight" if needed else "vision_proj.weight"
    projection = file.tensors.get(name)
    if projection is None and not needed:
        return {}
    if projection is None or projection.dim() != 2:
        raise DataError(
            "tensor is missing or no matrix", file.source, field=f"{'text' if needed else 'vision'}_proj.weight"
        )
    if file.said.embed_dim not in (None, len(projection)):
        message = f"is {file.said.embed_dim}, and the tensors show {len(projection)}"
        raise DataError(message, file.source, field="config.embed_dim")
    shared = needed and file.tensors.get("vision_proj.weight") is projection
    return {"embed_dim": len(projection), "one_projection": shared}


def _fine_tuned(file: CclmFile) -> Dict[str, Any]:
    """Options of what a fine-tuned model has beside the towers and the fusion encoder."""
    found: Dict[str, Any] = {}
    if file.images_per_text > 1:
        found["images_per_text"] = file.images_per_text
    classifier = file.tensors.get("cls_head.3.weight")
    if classifier is not None:
        found["num_labels"] = len(classifier) if classifier.dim() else 0
    layers = count_layers(file.tensors, "text_decoder.layer.", file.source)
    if layers:
        found["decoder_layers"] = layers
    return found


def _nearest(side: str, kind: type, wanted: Mapping[str, Any]) -> Dict[str, Any]:
    """The tower of a kind from which the fewest dimensions differ, and these, as options."""
    found = []
    for name in known(TOWERS[side]):
        if TOWERS[side][name].config is not kind:
            continue
        width = {"width": wanted["width"]} if side == "text" else {}  # which others follow from
        usual, own = (tower_config(TOWERS[side], f"--{side}-tower", name, **more) for more in (width, {}))
        options: Dict[str, Any] = {}
        for option, field in dimension_names(side, TOWERS[side][name]).items():
            if field in wanted and wanted[field] != getattr(own if field == "width" else usual, field):
                value = wanted[field]
                options[option] = stage_numbers(value) if isinstance(value, tuple) else value
        found.append({f"{side}_tower": name, **options})
    return min(found, key=len)


def _with_maps_of_texts(file: CclmFile) -> Tensors:
    """The tensors; where images are of another width than texts, as in X-VLM, the file's keys and values are those of
    images, and texts as views get random ones."""
    tensors, width = dict(file.tensors), file.text["width"]
    if image_width(file) == width:
        return tensors
    generator = torch.Generator().manual_seed(0)
    for layer in range(file.fusion_layers * file.images_per_text):
        first = f"fusion.layer.{layer - layer % file.images_per_text}{CROSS}self."
        for part in ("key", "value"):
            name = f"fusion.layer.{layer}{CROSS}self.{part}"
            for kind in ("weight", "bias"):
                if f"{name}.{kind}" in tensors:
                    tensors[f"fusion.layer.{layer}{CROSS}self.image_{part}.{kind}"] = tensors.pop(f"{name}.{kind}")
            if layer % file.images_per_text:
                tensors.update({f"{name}.{kind}": tensors[f"{first}{part}.{kind}"] for kind in ("weight", "bias")})
                continue
            tensors[f"{name}.weight"] = torch.randn(width, width, generator=generator) * STD
            tensors[f"{name}.bias"] = torch.zeros(width)
    logger.warning("%s: was trained on images only: keys and values of texts as views are random", file.source)
    return tensors
