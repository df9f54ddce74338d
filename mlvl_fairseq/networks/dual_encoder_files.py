"""Dual encoders out of files: whole ones out of checkpoints, whose frozen weights are where they were taken from, and
towers out of public files."""

import functools
import logging
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Collection, Dict, Iterable, List, Optional, Sequence, Type

import torch

from mlvl_fairseq.checkpoints.archive import save_checkpoint
from mlvl_fairseq.checkpoints.check import check_tensors, holding, without_values
from mlvl_fairseq.checkpoints.formats.trained_dual_encoder import TrainedDualEncoder
from mlvl_fairseq.checkpoints.source import (
    Tensors,
    WeightSource,
    add_prefix,
    fill_in,
    fingerprint,
    format_of,
    take_prefix,
)
from mlvl_fairseq.checkpoints.towers.base import resized
from mlvl_fairseq.data.text.base import Tokenizer
from mlvl_fairseq.data.text.going_on import require_tokenizer_of_folder, tokenizer_to_go_on
from mlvl_fairseq.data.text.wordpiece import WordPieceTokenizer
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.low_rank import merge_lora
from mlvl_fairseq.modules.towers.base import IMAGE_TOWERS, TEXT_TOWERS
from mlvl_fairseq.networks.base import NETWORKS
from mlvl_fairseq.networks.dual_encoder import (
    DualEncoderNetwork,
    TowerConfigs,
    describe,
    dimension_options,
)
from mlvl_fairseq.options import with_options

logger = logging.getLogger(__name__)

PARTS = {"image_weights": "image", "text_weights": "text", "init_from": "frozen"}  # option -> what a file leaves out
LORA = ("lora_targets", "lora_alpha")  # what low-rank updates do not show by themselves


@dataclass
class _Origins:
    """Where the weights were taken from that training kept frozen."""

    init_from: Optional[str] = None
    image_weights: Optional[str] = None
    text_weights: Optional[str] = None


@functools.cache
def saved_options(network: Type[DualEncoderNetwork]) -> type:
    """What the checkpoints of a kind of network say of the model."""
    dimensions = [dimension_options("image", IMAGE_TOWERS), dimension_options("text", TEXT_TOWERS)]
    return with_options(_Origins, [*network.own_options, *dimensions])


@dataclass(frozen=True)
class WholeDualEncoder:
    """A checkpoint with all its weights.

    Attributes:
        network: what it is of. options: of the model. configs: of its towers. tensors: by name.
        tokenizer: what cut its captions.
        max_length: tokens of a caption. languages: learned in sequence. source: the file.
        tokenizer_folder: where its tokenizer was found, if files of it are needed.
        choices: labels or answers that a head chooses from, in the order of its rows.
    """

    network: Type[DualEncoderNetwork]
    options: Any
    configs: TowerConfigs
    tensors: Tensors
    tokenizer: Tokenizer
    max_length: Optional[int]
    languages: List[str]
    source: WeightSource
    tokenizer_folder: Optional[str] = None
    choices: Sequence[str] = ()

    def build(self) -> DualEncoderNetwork:
        """A network of these dimensions, with what the preset adds."""
        return self.network.of_options(self.options, self.configs)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights, and of what they do not show."""
        lora = " ".join(str(getattr(self.options, name)) for name in LORA if hasattr(self.options, name))
        basis = f"{describe(self.configs)}; {self.options.transform}; {lora}; {self.tokenizer.fingerprint}"
        return fingerprint({"basis": torch.tensor(list(basis.encode())), **self.tensors})


def read_whole(
    source: WeightSource,
    family: Optional[str] = None,
    tokenizer_folder=None,
    own: Optional[Tokenizer] = None,
    **moved: Optional[str],
) -> WholeDualEncoder:
    """Read a checkpoint, and what it left out from where that was taken from.

    Args:
        family: of networks, which it has to be of; None: any with two towers.
        tokenizer_folder: of the tokenizer. own: the tokenizer of a training that goes on from there.
        moved: `init_from`, `image_weights`, `text_weights`: where these are now.

    Raises:
        DataError: a file is missing, damaged, or holds tensors that the network lacks or lacks some of the network's.
        UserError: a frozen file is not there or another one, or it is of another family, or of a tokenizer whose ids
            stand for something else in `own`.
    """
    form = format_of(source, family)
    if not isinstance(form, TrainedDualEncoder):
        raise UserError(f"{source.path} holds a model of the family '{form.family}', which is no dual encoder")
    file, network = form.read(source), NETWORKS[form.family]
    given, tokenizer_folder = tokenizer_folder, tokenizer_folder or file.tokenizer_folder
    options = file.options(saved_options(network))
    if own is None:
        text = file.tokenizer(tokenizer_folder)
    else:
        text = tokenizer_to_go_on(file.content.task_state, source.path, own, tokenizer_folder)
    if given and isinstance(text, WordPieceTokenizer) and not text.is_of(given):
        raise UserError(f"{given} holds another tokenizer than {source.path}, which needs none: its own is in it")
    configs = TowerConfigs.of_options(options, len(text))
    whole = WholeDualEncoder(
        network,
        options,
        configs,
        file.tensors,
        text,
        file.max_length,
        file.languages,
        source,
        tokenizer_folder,
        file.choices,
    )
    expected = without_values(whole.build).state_dict()
    tensors = dict(file.tensors)
    for option, part in PARTS.items():
        if part in file.fingerprints:
            path = moved.get(option) or getattr(options, option)
            every = _origin_tensors(option, path, whole)
            frozen = {name: every[name] for name in every.keys() & expected.keys() - file.tensors.keys()}
            complaint = f"{path} does not hold the frozen weights that {source.path} was trained with"
            tensors = fill_in(tensors, frozen, file.fingerprints[part], complaint)
    check_tensors(source.path, "a dual encoder of these options", whole.build, tensors)
    return replace(whole, tensors=tensors)


def write_merged(whole: WholeDualEncoder, path) -> None:
    """Write a checkpoint to evaluate or to start from that needs no other file: all weights are in it, low-rank
    updates merged into them. Only a SentencePiece tokenizer stays where it is.

    Raises:
        DataError: the file cannot be written.
    """
    network = holding(whole.build, whole.tensors)
    merge_lora(network)
    options = {name: str(value) if isinstance(value, Enum) else value for name, value in vars(whole.options).items()}
    options.update({"_name": whole.network.family, **dict.fromkeys(PARTS)})
    if "preset" in options:
        words = [word for word in options["preset"].split("+") if word.partition("_")[0] != "lora"]
        options["preset"] = "+".join(words) or "proj"
    content = {
        "cfg": {
            "model": options,
            "task": {
                "tokenizer_folder": whole.tokenizer_folder,
                "max_length": whole.max_length,
                "max_words": whole.tokenizer.max_words,
            },
        },
        "model": network.state_dict(),
        "task_state": {**whole.tokenizer.checkpoint_state(), "languages": whole.languages},
    }
    save_checkpoint(content, path)


def _origin_tensors(option: str, path: Optional[str], whole: WholeDualEncoder) -> Tensors:
    flag = f"--{option.replace('_', '-')}"
    if path is None or not Path(path).exists():
        raise UserError(
            f"{whole.source.path} needs the frozen weights it was trained with, and {path} is not there: say where "
            f"they are with {flag}"
        )
    if option == "init_from":
        return read_whole(whole.source.origin(path), whole.network.family).tensors
    return whole.network.public_tensors(PARTS[option], path, whole.options, whole.configs)


def start_from(
    network: DualEncoderNetwork, options: Any, configs: TowerConfigs, tokenizer: Tokenizer, growth=None
) -> Dict[str, List[str]]:
    """Load the files that options name: ``init_from``, or ``image_weights`` and ``text_weights``.

    Args:
        tokenizer: of the training. growth: draws the rows of tokens that a checkpoint does not have yet, see
            :class:`mlvl_fairseq.modules.expandable_embedding.GrowthOptions`; None: it has to have all.

    Returns:
        option -> names of the network's parameters that came from there.

    Raises:
        DataError: a file is missing, damaged or does not fit. UserError: options that do not go together, or weights
            that belong to another tokenizer.
    """
    files = {side: getattr(options, f"{side}_weights") for side in network.sides}
    if not options.init_from:
        given = {side: path for side, path in files.items() if path}
        if "text" in given:
            require_tokenizer_of_folder(tokenizer, given["text"], "--text-weights")
        return {f"{side}_weights": load_side(network, side, options, configs, given[side]) for side in given}
    if any(files.values()):
        raise UserError("--init-from holds both towers: leave --image-weights and --text-weights out")
    return {"init_from": load_all(network, configs, options.init_from, tokenizer, growth)}


def tell_what_stays_random(network: DualEncoderNetwork, frozen: Sequence[str], given: Collection[str]) -> None:
    """Warn of towers that neither start from a file nor train.

    Args:
        frozen: names of parameters. given: options of the files that weights came from.
    """
    matrices = {name: weight.numel() for name, weight in network.named_parameters() if weight.dim() > 1}
    for side, module in network.sides.items():
        count = sum(matrices.get(name, 0) for name in frozen if name.startswith(f"{module}."))
        if count and not {"init_from", f"{side}_weights"} & set(given):
            what = f"{count:,} weights of the {side} tower are random and stay so"
            logger.warning("%s: it has no --%s-weights", what, side)


def load_side(network: DualEncoderNetwork, side: str, options: Any, configs: TowerConfigs, path) -> List[str]:
    """Put a public file into a side of a network. Returns names of the network's parameters that are of it.

    Raises:
        DataError: the file does not fit. UserError: this tower does not start from files.
    """
    tensors = network.public_tensors(side, path, options, configs)
    derived = network.started(tensors)
    network.load_state_dict({**tensors, **derived}, strict=False)
    return [name for name, _ in network.named_parameters() if name in tensors and name not in derived]


def load_all(network: DualEncoderNetwork, configs: TowerConfigs, path, tokenizer: Tokenizer, growth=None) -> List[str]:
    """Put all weights of a checkpoint into a network, which may have more: adapters, updates, an appended block.

    Args:
        tokenizer, growth: see :func:`start_from`.

    Returns:
        names of the parameters that are of the checkpoint as they are.

    Raises:
        DataError: the file is damaged or missing. UserError: it has parts that the network lacks, lacks others than
            added ones, or was trained with another tokenizer.
    """
    whole = read_whole(WeightSource(path), network.family, own=tokenizer)
    own, given = network.state_dict(), _resized(whole, configs.image)
    grown = _grow(network, given, growth)
    derived = network.started(given, whole.options)
    given.update(derived)
    _leave_out_heads(network, given, path)
    for name in sorted(given.keys() - own.keys()):
        raise UserError(f"--init-from {path} has {name}, which this model lacks: give its --preset, or other towers")
    towers = {name for side in network.sides for name in _bare_names(network, side, getattr(configs, side))}
    sides = tuple(f"{module}." for module in network.sides.values())
    fresh = tuple(part for part in network.may_be_missing if _of(part, own) and not _of(part, given))
    missing = {name for part in fresh for name in _of(part, own)}
    for name in sorted(name for name in own.keys() - given.keys() if name in towers or not name.startswith(sides)):
        if name in missing:
            continue
        raise UserError(f"--init-from {path} has no {name}, which this model has: give its towers and --temperature")
    for name, tensor in given.items():
        if tensor.shape != own[name].shape:
            found, wanted = list(tensor.shape), list(own[name].shape)
            raise UserError(f"--init-from {path} has {name} of shape {found}, this model {wanted}")
    network.load_state_dict(given, strict=False)
    if fresh:
        logger.warning("--init-from %s has no %s: random here", path, " and no ".join(fresh))
    return [name for name, _ in network.named_parameters() if name in given.keys() - derived.keys() - {grown}]


def _leave_out_heads(network: DualEncoderNetwork, tensors: Tensors, path) -> None:
    """Take those parts out of a checkpoint's tensors that a network does without."""
    own = network.state_dict()
    for part in network.may_be_missing:
        if _of(part, tensors) and not _of(part, own):
            logger.info("--init-from %s: its %s is left out", path, part)
            for name in _of(part, tensors):
                del tensors[name]


def _of(part: str, names: Iterable[str]) -> List[str]:
    """Those of a submodule, or the parameter itself."""
    return [name for name in names if name == part or name.startswith(f"{part}.")]


def _resized(whole: WholeDualEncoder, image: Any) -> Tensors:
    """The tensors of a checkpoint, its image tower for pictures of the size that the config `image` says."""
    if image == whole.configs.image or type(image) is not type(whole.configs.image):
        return dict(whole.tensors)
    prefix = f"{whole.network.sides['image']}."
    own = take_prefix(whole.tensors, prefix)
    tables = add_prefix(resized(own, image, whole.source.path), prefix)
    return {**{name: tensor for name, tensor in whole.tensors.items() if not name.startswith(prefix)}, **tables}


def _grow(network: DualEncoderNetwork, tensors: Tensors, growth) -> Optional[str]:
    """Add the rows of new tokens to a checkpoint's embedding, in place. Returns its name; None: nothing was added."""
    name = f"text_encoder.{network.text_encoder.growing_embedding}.weight"
    rows = network.text_encoder.vocab_size
    if growth is None or name not in tensors or len(tensors[name]) >= rows:
        return None
    tensors[name] = growth.grow(tensors[name], rows)
    return name


def _bare_names(network: DualEncoderNetwork, side: str, config: Any) -> List[str]:
    """The parameters of a tower as its config builds it, in the network's names."""
    return [f"{network.sides[side]}.{name}" for name, _ in without_values(config.build).named_parameters()]
