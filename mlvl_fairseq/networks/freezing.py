"""What trains and what does not: ordered rules on parameter names, one mechanism for every network."""

import logging
import re
from dataclasses import dataclass, field
from typing import List, Mapping, Optional, Sequence

from torch import nn

from mlvl_fairseq.errors import UserError

logger = logging.getLogger(__name__)


def freezing_options(presets: Mapping[str, Sequence[str]], shorthand: str) -> type:
    """A dataclass with ``--trainable``, the option of every model with parameters to choose from.

    Args:
        presets: names for it. shorthand: the option of the model that does the same for usual cases.
    """

    @dataclass
    class FreezingOptions:
        trainable: Optional[str] = field(
            default=None,
            metadata={
                "help": f"what trains: {', '.join(presets)}; or rules on parameter names, separated by spaces: "
                "+PATTERN trains and -PATTERN freezes what the regular expression finds, later rules win, as in "
                f"--trainable='-. +bias' (write the = where a rule begins with -). Wins over {shorthand}"
            },
        )

    return FreezingOptions


def freeze(
    module: nn.Module,
    trainable: Optional[str],
    shorthand: Sequence[str],
    option: str,
    presets: Mapping[str, Sequence[str]],
) -> List[str]:
    """:func:`freeze_parameters` as ``--trainable`` says, or, where it is not given, by the rules of a shorthand.

    Args:
        trainable: value of ``--trainable``. presets: names for it.
        shorthand: rules of another option. option: that one as the user wrote it, for messages.
    """
    if trainable is not None:
        shorthand, option = rules_of(trainable, presets), f"--trainable '{trainable}'"
    frozen = freeze_parameters(module, shorthand, option)
    tell_trained(module)
    return frozen


def tell_trained(module: nn.Module) -> None:
    """Log how many parameters train."""
    parameters = list(module.parameters())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    counts = sum(parameter.numel() for parameter in trained), sum(parameter.numel() for parameter in parameters)
    logger.info(f"{counts[0]:,} of {counts[1]:,} parameters train ({len(trained)} of {len(parameters)} tensors)")


def rules_of(text: str, presets: Mapping[str, Sequence[str]]) -> List[str]:
    """The rules behind ``--trainable``: a preset's, or those that are typed.

    Raises:
        UserError: a word is no rule.
    """
    if text in presets:
        return list(presets[text])
    rules = text.split()
    wrong = [rule for rule in rules if rule[0] not in "+-"]
    if wrong:
        named = f", or one of the presets {', '.join(presets)}" if presets else ""
        raise UserError(f"--trainable '{wrong[0]}': write +PATTERN or -PATTERN{named}")
    return rules


def freeze_parameters(module: nn.Module, rules: Sequence[str], option: str) -> List[str]:
    """Freeze what the rules say. Without rules, everything trains.

    Args:
        module: parameters that are frozen already stay frozen, and are not among the result.
        rules: ``+PATTERN`` and ``-PATTERN``, applied in order to the names of parameters.
        option: the user's words, for messages.

    Returns:
        names of the parameters that the rules freeze; a tensor with several names has the first.

    Raises:
        UserError: a pattern is no regular expression, matches nothing, or nothing is left to train.
    """
    parameters = dict(module.named_parameters())
    trains = {name: True for name, parameter in parameters.items() if parameter.requires_grad}
    for rule in rules:
        for name in _matches(rule[1:], parameters, option):
            if name in trains:
                trains[name] = rule[0] == "+"
    if not any(trains.values()):
        raise UserError(f"{option} leaves nothing to train")
    for name, flag in trains.items():
        parameters[name].requires_grad = flag
    return [name for name, flag in trains.items() if not flag]


def _matches(pattern: str, names, option: str) -> List[str]:
    try:
        found = [name for name in names if re.search(pattern, name)]
    except re.error as error:
        raise UserError(f"{option} is no regular expression: {error}") from None
    if not found:
        raise UserError(f"{option} matches no parameter" + ("" if pattern in option else f" ({pattern})"))
    return found
