"""What trains and what does not: ordered rules on parameter names, one mechanism for every network."""

import logging
import re
from dataclasses import dataclass, field
from typing import Iterable, List, Mapping, NamedTuple, Optional, Sequence, Union

from torch import nn

from mlvl_fairseq.errors import UserError

logger = logging.getLogger(__name__)


class Rule(NamedTuple):
    """What the names that a regular expression finds do.

    Attributes:
        trains: they train, or are frozen.
        pattern: for `re.search`.
        inside: a module; the pattern then is about its own names of its parameters. Empty: about the whole names.
    """

    trains: bool
    pattern: str
    inside: str = ""

    @classmethod
    def of(cls, rule: "Union[str, Rule]") -> "Rule":
        """``+PATTERN`` trains, ``-PATTERN`` freezes."""
        return rule if isinstance(rule, Rule) else cls(rule[0] == "+", rule[1:])

    def __str__(self) -> str:
        where = f"^{re.escape(self.inside)}: " if self.inside else ""
        return f"{'+' if self.trains else '-'}{where}{self.pattern}"

    def find(self, names: Iterable[str]) -> List[str]:
        """Those of `names` that it is about. Raises re.error: the pattern is no regular expression."""
        prefix = f"{self.inside}." if self.inside else ""
        own = ((name, name[len(prefix) :]) for name in names if name.startswith(prefix))
        return [name for name, inner in own if re.search(self.pattern, inner)]


Rules = Sequence[Union[str, Rule]]


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
                "+PATTERN trains and -PATTERN freezes what the regular expression finds, later rules win, names stand "
                f"for their rules, as in --trainable='-. +bias' (write the = where a rule begins with -). Wins over "
                f"{shorthand}"
            },
        )

    return FreezingOptions


def freeze(
    module: nn.Module,
    trainable: Optional[str],
    shorthand: Rules,
    option: str,
    presets: Mapping[str, Rules],
    added: int = 0,
) -> List[str]:
    """:func:`freeze_parameters` as ``--trainable`` says, or, where it is not given, by the rules of a shorthand.

    Args:
        trainable: value of ``--trainable``. presets: names for it.
        shorthand: rules of another option. option: that one as the user wrote it, for messages.
        added: see :func:`tell_trained`.
    """
    if trainable is not None:
        shorthand, option = rules_of(trainable, presets), f"--trainable '{trainable}'"
    frozen = freeze_parameters(module, shorthand, option)
    tell_trained(module, added)
    return frozen


class Counts(NamedTuple):
    """How many numbers a module has.

    Attributes:
        trained: of those that train. total: of all. added: of those that were added for training.
    """

    trained: int
    total: int
    added: int = 0

    @classmethod
    def of(cls, module: nn.Module, added: int = 0) -> "Counts":
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in module.parameters()]
        return cls(sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes), added)

    @property
    def percent(self) -> float:
        """Of all parameters."""
        return 100 * self.trained / max(1, self.total)

    @property
    def percent_of_base(self) -> float:
        """Of the parameters that there were before any were added."""
        return 100 * self.trained / max(1, self.total - self.added)

    def __str__(self) -> str:
        text = f"{self.trained:,} of {self.total:,} parameters train ({self.percent:.4f}%"
        base = self.total - self.added
        return text + (f"; {self.percent_of_base:.4f}% of the {base:,} without added parts)" if self.added else ")")


def tell_trained(module: nn.Module, added: int = 0) -> None:
    """Log how many parameters train; `added`: how many of all were added for training."""
    tensors = [parameter.requires_grad for parameter in module.parameters()]
    logger.info("%s, %d of %d tensors", Counts.of(module, added), sum(tensors), len(tensors))


def rules_of(text: str, presets: Mapping[str, Rules]) -> List[Union[str, Rule]]:
    """The rules behind ``--trainable``: those that are typed, and those that presets among them stand for.

    Raises:
        UserError: a word is neither a rule nor a preset.
    """
    rules = []
    for word in text.split():
        if word[0] not in "+-" and word not in presets:
            named = f", or one of the presets {', '.join(presets)}" if presets else ""
            raise UserError(f"--trainable '{word}': write +PATTERN or -PATTERN{named}")
        rules += presets.get(word, [word])
    return rules


def freeze_parameters(module: nn.Module, rules: Rules, option: str) -> List[str]:
    """Freeze what the rules say. Without rules, everything trains.

    Args:
        module: parameters that are frozen already stay frozen, and are not among the result.
        rules: ``+PATTERN`` and ``-PATTERN``, or :class:`Rule`, applied in order to the names of parameters.
        option: the user's words, for messages.

    Returns:
        names of the parameters that the rules freeze; a tensor with several names has the first.

    Raises:
        UserError: a pattern is no regular expression, matches nothing, or nothing is left to train.
    """
    parameters = dict(module.named_parameters())
    trains = {name: True for name, parameter in parameters.items() if parameter.requires_grad}
    for rule in map(Rule.of, rules):
        for name in _matches(rule, parameters, option):
            if name in trains:
                trains[name] = rule.trains
    if not any(trains.values()):
        raise UserError(f"{option} leaves nothing to train")
    for name, flag in trains.items():
        parameters[name].requires_grad = flag
    return [name for name, flag in trains.items() if not flag]


def _matches(rule: Rule, names: Iterable[str], option: str) -> List[str]:
    try:
        found = rule.find(names)
    except re.error as error:
        raise UserError(f"{option} is no regular expression: {error}") from None
    if not found:
        shown = "" if rule.pattern in option else f" ({rule if rule.inside else rule.pattern})"
        raise UserError(f"{option} matches no parameter{shown}")
    return found
