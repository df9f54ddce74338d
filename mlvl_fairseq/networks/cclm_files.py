"""What a CCLM starts from: layers of an XLM-R go into its text tower and its fusion encoder (Zeng et al. 2023). Image
towers and checkpoints: :mod:`mlvl_fairseq.networks.dual_encoder_files`."""

import logging
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from mlvl_fairseq.checkpoints.source import Tensors, WeightSource
from mlvl_fairseq.checkpoints.towers.bert import read_stack
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.towers.bert import BertConfig

logger = logging.getLogger(__name__)
ODD, ALL = "odd", "all"
LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.+)")
TEXT, FUSION = "text_encoder.", "fusion."


@dataclass
class LayersOptions:
    layers_from: Optional[str] = field(
        default=None,
        metadata={
            "help": "which layers of --text-weights become those of the text tower and, behind them, of the fusion "
            "encoder: odd, every second one from the second on, as published (1, 3, 5, ... counted from 0); all; or "
            "their numbers, separated by commas. By default odd where the file has twice as many, all where it has as "
            "many"
        },
    )


def check_layers(options: Any) -> None:
    """Raises UserError: ``layers_from`` picks layers, and there is no ``text_weights`` that has them."""
    if options.layers_from is not None and not options.text_weights:
        raise UserError(f"--layers-from {options.layers_from} picks layers of --text-weights, which is not given")


def text_tensors(path, options: Any, config: BertConfig) -> Tensors:
    """An XLM-R or BERT for a CCLM: embeddings, the layers that ``layers_from`` picks, and the head of masked tokens if
    the file has one, by the names of :class:`mlvl_fairseq.networks.cclm.CclmNetwork`.

    Args:
        path: see :func:`mlvl_fairseq.checkpoints.towers.bert.read_stack`.
        options: with ``fusion_layers`` and ``layers_from``. config: of the text tower.

    Raises:
        DataError: the file is missing, damaged, or of other dimensions. UserError: it has not these layers.
    """
    stack = read_stack(WeightSource(path), config)
    wanted = config.layers + options.fusion_layers
    picked = pick_layers(options.layers_from, wanted, stack.layers, path)
    places: Dict[int, List[int]] = {}
    for place, number in enumerate(picked):
        places.setdefault(number, []).append(place)
    tensors = dict(stack.head)
    for name, tensor in stack.tensors.items():
        layer = LAYER.fullmatch(name)
        if layer is None:
            tensors[TEXT + name] = tensor
            continue
        for place in places.get(int(layer[1]), ()):
            above = place - config.layers
            module = f"{TEXT}encoder.layer.{place}" if above < 0 else f"{FUSION}layer.{above}"
            tensors[f"{module}.{layer[2]}"] = tensor
    logger.info("%s: layers %s of %d", path, ",".join(map(str, picked)), stack.layers)
    logger.info("%s: cross-attention is in no such file: it is drawn from N(0, 0.02)", path)
    if not stack.head:
        logger.warning("%s: has no head of masked tokens: it is random", path)
    return tensors


def pick_layers(layers_from: Optional[str], wanted: int, there: int, path) -> List[int]:
    """The numbers of the file's layers, one for each of ours.

    Args:
        layers_from: see :class:`LayersOptions`. wanted: layers of text tower and fusion encoder. there: of the file.

    Raises:
        UserError: the file has not these.
    """
    if layers_from is None:
        layers_from = {2 * wanted: ODD, wanted: ALL}.get(there)
        if layers_from is None:
            raise UserError(
                f"{path} has {there} layers for {wanted}: say with --layers-from which, e.g. {ODD} or 0,2,4"
            )
    if layers_from == ALL:
        picked = list(range(there))
    elif layers_from == ODD:
        picked = list(range(1, 2 * wanted, 2))
    elif re.fullmatch(r"\d{1,4}(,\d{1,4})*", layers_from):
        picked = [int(number) for number in layers_from.split(",")]
    else:
        raise UserError(f"--layers-from {layers_from}: give {ODD}, {ALL}, or numbers as 1,3,5")
    if len(picked) != wanted:
        raise UserError(f"--layers-from {layers_from} are {len(picked)} layers for {wanted} of text tower and fusion")
    if max(picked, default=0) >= there:
        raise UserError(
            f"--layers-from {layers_from}: {path} has {there} layers, 0 to {there - 1}, and no {max(picked)}"
        )
    return picked
