"""XLM-R's weights: read from fairseq's files and from checkpoints of task ``mte_pretraining``, written for fairseq."""

import functools
from argparse import Namespace
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Dict, List, Mapping, Optional, Sequence

import torch
from msgspec import Meta
from torch import Tensor

from mlvl_fairseq.checkpoints.archive import save_checkpoint
from mlvl_fairseq.checkpoints.check import check_tensors, holding
from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file
from mlvl_fairseq.checkpoints.source import (
    Tensors,
    WeightFormat,
    WeightSource,
    add_prefix,
    as_float32,
    count_layers,
    fill_in,
    fingerprint,
    read_fingerprint,
    register_weight_format,
    take_prefix,
)
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.json_files import Size, checked
from mlvl_fairseq.modules.towers.xlmr import PAD, XlmrConfig, XlmrEncoder

MTE = "encoder.xlmr."  # where the encoder is in a checkpoint of task mte_pretraining
PREFIXES = ("encoder.sentence_encoder.", "decoder.sentence_encoder.", MTE)  # the second one: XLM-R as it was released
Probability = Annotated[float, Meta(ge=0, le=1)]
VERSION = {"version": torch.tensor([3.0])}  # what fairseq calls its present layout of a transformer


@dataclass(frozen=True)
class XlmrWeights:
    """Checked float32 weights of an XLM-R encoder.

    Attributes:
        config: dimensions; dropout as in the file.
        tensors: by their names in `XlmrEncoder`. The head for masked words is not among them.
        source: the file read.
    """

    config: XlmrConfig
    tensors: Tensors
    source: str

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the tensors; equal weights in other files have the same one."""
        return fingerprint(self.tensors)

    def require_vocabulary(self, size: int) -> None:
        """Raises UserError: it has not as many embeddings as a dictionary has entries."""
        if self.config.vocab_size != size:
            raise UserError(
                f"{self.source} has {self.config.vocab_size} embeddings for a dictionary of {size}: give the "
                "--sentencepiece folder it was trained with"
            )

    def require_positions(self, length: int) -> None:
        """Raises UserError: it has fewer positions than the longest sentence has tokens."""
        if self.config.max_positions < length:
            raise UserError(
                f"{self.source} takes {self.config.max_positions} tokens, not {length}: give a smaller --max-length"
            )

    def require_width(self, width: int) -> None:
        """Raises UserError: it has another width than the options say."""
        if self.config.width != width:
            raise UserError(
                f"{self.source} has width {self.config.width}, not {width}: choose another --arch or "
                "--encoder-embed-dim"
            )

    def encoder(self) -> XlmrEncoder:
        """An encoder that holds these very tensors (not copies)."""
        return holding(self.config.build, {**self.tensors, **VERSION})


def read_xlmr(path, xlmr=None) -> XlmrWeights:
    """Read an XLM-R encoder; nothing in the file is executed.

    Args:
        path: ``model.pt`` of a fairseq XLM-R release or the folder that holds it, a file of `write_xlmr`, or a
            checkpoint of task ``mte_pretraining``.
        xlmr: where the frozen weights of such a checkpoint are now; None: where they were when it was trained.

    Raises:
        DataError: the file is missing, damaged, refused for its content, or holds no XLM-R encoder.
        UserError: the frozen weights of a checkpoint are not those it was trained with.
    """
    path = Path(path)
    return _read(WeightSource(path / "model.pt" if path.is_dir() else path), xlmr)


@register_weight_format("mte", "XLM-R of fairseq (model.pt), or a checkpoint of task mte_pretraining")
class FairseqXlmr(WeightFormat):
    def detect(self, source: WeightSource) -> bool:
        model = source.state.get("model")
        is_folder = source.path.is_dir() and (source.path / "model.pt").exists()
        return is_folder or (isinstance(model, Mapping) and any(str(name).startswith(PREFIXES) for name in model))

    def read(self, source: WeightSource, xlmr=None) -> XlmrWeights:
        return read_xlmr(source.path, xlmr) if source.path.is_dir() else _read(source, xlmr)


def _read(source: WeightSource, xlmr) -> XlmrWeights:
    content, path = source.state or load_checkpoint_file(source.path), source.path
    model, options = content.get("model"), model_options(content, path)
    if not isinstance(model, Mapping):
        raise DataError("is missing or no dictionary; give fairseq's model.pt of XLM-R", path, field="model")
    tensors = _encoder_tensors(checked(model, Dict[str, Any], path, "model"), path)
    if read_fingerprint(model, "frozen_fingerprint", path) is not None:
        tensors = _fill_in_frozen(tensors, model, xlmr or options.xlmr, source)
    return _checked(tensors, options, path)


def xlmr_from_state(model: Mapping[str, Any], prefix: str, options: "XlmrOptions", path) -> XlmrWeights:
    """The XLM-R encoder whose tensors have this prefix in a state dict.

    Args:
        options: of the encoder, as far as they are known.
        path: of the file, for messages.

    Raises:
        DataError: there is none, or it is damaged.
    """
    return _checked(_encoder_tensors(model, path, (prefix,)), options, path)


def _checked(tensors: Tensors, options: "XlmrOptions", path) -> XlmrWeights:
    config = _infer_config(tensors, options, path)
    _check(tensors, config, path)
    return XlmrWeights(config, tensors, str(path))


@dataclass(frozen=True)
class XlmrOptions:
    """What a fairseq checkpoint says of the encoder in its options; None: nothing."""

    encoder_attention_heads: Optional[Size] = None
    dropout: Optional[Probability] = None
    attention_dropout: Optional[Probability] = None
    activation_dropout: Optional[Probability] = None
    xlmr: Optional[str] = None


def model_options(content: Mapping[str, Any], path) -> XlmrOptions:
    """The options of the model in a fairseq checkpoint, whether it has ``args`` (until 2020) or ``cfg``.

    Raises:
        DataError: they are of other types, or out of range.
    """
    options, field = content.get("args"), "args"
    if options is None:
        cfg = checked(content.get("cfg"), Optional[Dict[str, Any]], path, "cfg") or {}
        options, field = cfg.get("model"), "cfg.model"
    options = vars(options) if isinstance(options, Namespace) else options
    return checked(options, Optional[XlmrOptions], path, field) or XlmrOptions()


def _encoder_tensors(model: Mapping[str, Any], path, prefixes: Sequence[str] = PREFIXES) -> Tensors:
    for prefix in prefixes:
        tensors = take_prefix(model, prefix)
        if tensors:
            break
    else:
        raise DataError("holds no XLM-R encoder (no tensor 'encoder.sentence_encoder...')", path)
    tensors.pop("version", None)
    tensors = {name.replace("emb_layer_norm.", "layernorm_embedding."): value for name, value in tensors.items()}
    return _split_projections(as_float32(tensors, path))


def _split_projections(tensors: Tensors) -> Tensors:
    """Queries, keys and values apart; fairseq had them in one matrix until 2019-12."""
    split = {}
    for name, tensor in tensors.items():
        layer, joined, kind = name.partition("in_proj_")
        if joined and not tensor.dim():
            continue  # it will be missing
        names = [f"{layer}{projection}_proj.{kind}" for projection in "qkv"] if joined else [name]
        split.update(zip(names, tensor.chunk(len(names))))
    return split


def _fill_in_frozen(tensors: Tensors, model: Mapping[str, Tensor], xlmr, source: WeightSource) -> Tensors:
    """`tensors` with those that the checkpoint left out, from where training took them."""
    path = source.path
    if not xlmr or not Path(xlmr).exists():
        raise UserError(
            f"{path} leaves out what it kept frozen, and {xlmr} is not there: say with --xlmr where that XLM-R is now"
        )
    xlmr = Path(xlmr)
    origin = _read(source.origin(xlmr / "model.pt" if xlmr.is_dir() else xlmr), None)
    frozen = {name: tensor for name, tensor in origin.tensors.items() if name not in tensors}
    complaint = f"{xlmr} does not hold the frozen weights that {path} was trained with"
    digest = fingerprint(add_prefix(frozen, MTE))
    return fill_in(tensors, frozen, model["frozen_fingerprint"], complaint, digest)


def _infer_config(tensors: Tensors, options: XlmrOptions, path) -> XlmrConfig:
    for name in ("embed_tokens.weight", "embed_positions.weight", "layers.0.fc1.weight"):
        if name not in tensors or tensors[name].dim() != 2 or not tensors[name].numel():
            raise DataError("is missing or no matrix of numbers; this is no XLM-R encoder", path, field=name)
    vocab_size, width = tensors["embed_tokens.weight"].shape
    probabilities = {
        name: value for name, value in vars(options).items() if name.endswith("dropout") and value is not None
    }
    return XlmrConfig(
        vocab_size=vocab_size,
        layers=count_layers(tensors, "layers.", path),
        width=width,
        ffn_width=len(tensors["layers.0.fc1.weight"]),
        heads=options.encoder_attention_heads or max(1, width // 64),
        max_positions=len(tensors["embed_positions.weight"]) - PAD - 1,
        **probabilities,
    )


def _check(tensors: Tensors, config: XlmrConfig, path) -> None:
    if config.width % config.heads:
        raise DataError(f"{config.heads} attention heads do not divide the width of {config.width}", path)
    check_tensors(path, "an XLM-R encoder", config.build, tensors, ignore=VERSION)


def write_xlmr(weights: XlmrWeights, path) -> None:
    """Write what fairseq's own ``XLMRModel.from_pretrained(folder, checkpoint_file=NAME)`` loads, without this plugin;
    the folder needs ``dict.txt`` and ``sentencepiece.bpe.model`` beside it.

    fairseq wants a head for masked words: it gets one that scores by similarity to the embeddings and was not trained.

    Raises:
        DataError: the file cannot be written.
    """
    model = {PREFIXES[0] + name: tensor for name, tensor in {**weights.tensors, **VERSION}.items()}
    model.update({f"encoder.lm_head.{name}": tensor for name, tensor in _masked_word_head(weights).items()})
    content = {
        "args": None,
        "cfg": _fairseq_options(weights.config),
        "model": model,
        "optimizer_history": [{"optimizer_name": "none", "lr_scheduler_state": {}, "num_updates": 0}],
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}},
        "last_optimizer_state": None,
    }
    save_checkpoint(content, path)


def _masked_word_head(weights: XlmrWeights) -> Tensors:
    config = weights.config
    return {
        "dense.weight": torch.eye(config.width),
        "dense.bias": torch.zeros(config.width),
        "layer_norm.weight": torch.ones(config.width),
        "layer_norm.bias": torch.zeros(config.width),
        "weight": weights.tensors["embed_tokens.weight"],
        "bias": torch.zeros(config.vocab_size),
    }


def _fairseq_options(config: XlmrConfig) -> Dict[str, Any]:
    """fairseq's configuration of a RoBERTa, as plain containers, which torch loads without an allow-list."""
    probabilities = {name: value for name, value in asdict(config).items() if "dropout" in name}
    model = {
        "_name": "roberta",
        "encoder_layers": config.layers,
        "encoder_embed_dim": config.width,
        "encoder_ffn_embed_dim": config.ffn_width,
        "encoder_attention_heads": config.heads,
        "max_positions": config.max_positions,
        **probabilities,
    }
    names: List[str] = ["bpe", "tokenizer"]  # chosen by from_pretrained
    task = {"_name": "masked_lm", "data": "", "tokens_per_sample": config.max_positions}
    return {**dict.fromkeys(names), "task": task, "model": model}
