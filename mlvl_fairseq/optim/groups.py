"""Which parameters decay, and at which share of the learning rate: rules on their names.

fairseq's optimizers get parameters without names. Those of ours that form groups have them put into ``param_group``
(:func:`name_parameters`, called where fairseq builds an optimizer): the attribute that fairseq hands on to the fp32
copies of half precision.
"""

import math
import re
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from torch import Tensor, nn

from mlvl_fairseq.errors import UserError

# What published models call temperatures, class tokens and tables of positions.
SCALARS = r"(^|[._])(temp|temperature|logit_scale)$"
CLASS_TOKENS = r"(^|\.)(cls_token|class_embedding|dist_token)$"
POSITIONS = r"(^|[._])(pos_embed|position(al)?_embeddings?|embed_positions|position_bias_table)(\.weight)?$"
# --weight-decay-rules by name
DECAY_PRESETS: Dict[str, Tuple[str, ...]] = {
    "default": tuple(f"-{pattern}" for pattern in (SCALARS, CLASS_TOKENS, POSITIONS)),
    "reference": (),
    "cclm": (r"-relative_position_bias_table$", r"+^(itm|bbox)_head\.1\.weight$"),
}


class Group(NamedTuple):
    """What an optimizer does alike to several parameters.

    Attributes:
        decays: whether weight decay acts on them.
        lr_scale: multiplies the learning rate, and with it the decay.
    """

    decays: bool
    lr_scale: float = 1.0


class Membership(NamedTuple):
    """A parameter's name and group."""

    name: str
    group: Group


class LrScale(NamedTuple):
    """A factor of the learning rate for parameters whose names the pattern finds."""

    factor: float
    pattern: str


def decay_rules(text: str) -> Sequence[str]:
    """The rules behind ``--weight-decay-rules``: a preset's, or those that are typed. Raises UserError: a word is no
    rule."""
    if text in DECAY_PRESETS:
        return DECAY_PRESETS[text]
    rules = text.split()
    for rule in rules:
        if rule[0] not in "+-" or len(rule) == 1:
            presets = ", ".join(DECAY_PRESETS)
            raise UserError(
                f"--weight-decay-rules '{rule}': write +PATTERN (decays) or -PATTERN, or one of the presets {presets}"
            )
    return rules


def lr_scales(text: str) -> List[LrScale]:
    """``"2:^fusion 0.1:^text"`` -> factors and patterns. Raises UserError: a word is something else."""
    scales = []
    for word in text.split():
        factor, _, pattern = word.partition(":")
        try:
            scale = LrScale(float(factor), pattern)
        except ValueError:
            scale = LrScale(-1.0, pattern)
        if not (pattern and 0 <= scale.factor < math.inf):
            raise UserError(f"--lr-scales '{word}': write FACTOR:PATTERN, with a factor of at least 0, e.g. 0.1:^text")
        scales.append(scale)
    return scales


def decays_by_shape(name: str, parameter: Tensor) -> bool:
    """Before any rule: vectors (norms) and what is called a bias do not decay; scalars do, as in LilT's published
    code."""
    return parameter.dim() != 1 and not (name == "bias" or name.endswith(".bias"))


def memberships(parameters: Dict[str, Tensor], decay: str, scales: str) -> Dict[str, Membership]:
    """The group of each parameter.

    Args:
        parameters: by name. decay: ``--weight-decay-rules``. scales: ``--lr-scales``. Later rules win.

    Raises:
        UserError: a rule is none, or its pattern finds no name (but a preset's, which know many models).
    """
    decaying = {name: decays_by_shape(name, parameter) for name, parameter in parameters.items()}
    for rule in decay_rules(decay):
        for name in _found(rule[1:], parameters, None if decay in DECAY_PRESETS else f"--weight-decay-rules '{rule}'"):
            decaying[name] = rule[0] == "+"
    factors = dict.fromkeys(parameters, 1.0)
    for factor, pattern in lr_scales(scales):
        for name in _found(pattern, parameters, f"--lr-scales '{factor:g}:{pattern}'"):
            factors[name] = factor
    return {name: Membership(name, Group(decaying[name], factors[name])) for name in parameters}


def _found(pattern: str, names: Iterable[str], option: Optional[str]) -> List[str]:
    """The names that a pattern finds. `option`: the user's words; None: it need not find any."""
    try:
        found = [name for name in names if re.search(pattern, name)]
    except re.error as error:
        raise UserError(f"{option} is no regular expression: {error}") from None
    if option and not found:
        raise UserError(f"{option} matches no parameter that trains")
    return found


def name_parameters(parameters: Iterable[Tuple[str, nn.Parameter]], decay: str, scales: str) -> None:
    """Attach name and group to every parameter that trains. Raises UserError: see :func:`memberships`."""
    trained = {name: parameter for name, parameter in parameters if parameter.requires_grad}
    for name, membership in memberships(trained, decay, scales).items():
        trained[name].param_group = membership


def membership_of(parameter: Tensor) -> Membership:
    """What :func:`name_parameters` attached; without it, the shape decides."""
    found = getattr(parameter, "param_group", None)
    return found if isinstance(found, Membership) else Membership("", Group(decays_by_shape("", parameter)))


def grouped(parameters: Iterable[Tensor], weight_decay: float) -> List[dict]:
    """The groups of a torch optimizer: those without decay first; parameters keep their order.

    Returns:
        ``params``, their ``names``, ``weight_decay`` and ``lr_scale`` of each group.
    """
    members: Dict[Group, List[Tensor]] = {}
    for parameter in parameters:
        members.setdefault(membership_of(parameter).group, []).append(parameter)
    return [
        {
            "params": own,
            "names": [membership_of(parameter).name for parameter in own],
            "weight_decay": weight_decay if group.decays else 0.0,
            "lr_scale": group.lr_scale,
        }
        for group, own in sorted(members.items())
    ]
