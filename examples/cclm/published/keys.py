"""Keys of the published configurations, and what they are here."""

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence

import yaml

from mlvl_fairseq.data.data_files import refuse_remote
from mlvl_fairseq.errors import UserError

NO_EFFECT = "nothing to set"
ABSENT = "absent"


@dataclass(frozen=True)
class Key:
    """A key of a published configuration.

    Attributes:
        published: its value, as YAML; None: configurations differ in it. ours: what it is here, for the table.
        option: of fairseq-train, takes the value. evaluate: of mlvl-evaluate, likewise. switch: `option` takes none,
            and is given where the value is this one.
        only: the values that are all there are here; None: any. change: value -> what the option takes.
        elsewhere: it is said in another way, by an argument of the script.
    """

    published: Optional[str]
    ours: str
    option: Optional[str] = None
    evaluate: Optional[str] = None
    switch: Any = None
    only: Optional[Sequence[Any]] = None
    change: Callable[[Any], Any] = str
    elsewhere: bool = False

    def words(self, value: Any, of: str = "option") -> List[str]:
        """The option with a value; nothing where it has none. `of`: ``option`` or ``evaluate``."""
        name = getattr(self, of)
        if name is None:
            return []
        if self.switch is not None:
            return name.split() if value == self.switch else []
        return [name, str(self.change(value))]


def option(published: Optional[str], name: str, more: str = "", **others) -> Key:
    return Key(published, f"`{name}`{more}", name, **others)


def only(published: Optional[str], value: Any, ours: str = "the same") -> Key:
    return Key(published, ours, only=(value,))


def argument(published: Optional[str], ours: str) -> Key:
    return Key(published, ours, elsewhere=True)


def nothing(published: Optional[str], why: str) -> Key:
    return Key(published, f"{NO_EFFECT}: {why}")


def given_values(words: Sequence[str], keys: Mapping[str, Key]) -> Dict[str, Any]:
    """``KEY=VALUE`` as :func:`yaml_value` reads it; of one key the last word counts.

    Raises:
        UserError: there is no such key, or nothing here has the value.
    """
    values: Dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or key not in keys:
            raise UserError(f"--overrides {word}: give KEY=VALUE, with a key of the table in examples/cclm/README.md")
        try:
            value = yaml_value(text)
        except (yaml.YAMLError, ValueError):
            raise UserError(f"--overrides {word}: no value of YAML") from None
        for path in value if isinstance(value, list) else [value]:
            refuse_remote(str(path), f"--overrides {key}")
        choices = keys[key].only
        if choices is not None and value not in choices:
            raise UserError(f"--overrides {word}: there is {' or '.join(map(str, choices))} only")
        if keys[key].elsewhere:
            raise UserError(f"--overrides {word}: here it is {keys[key].ours}")
        values[key] = value
    return values


def yaml_value(text: str) -> Any:
    """As the published program reads it: 1e-4 is a number."""
    value = yaml.safe_load(text)
    return float(value) if isinstance(value, str) and text[:1].isdigit() and "/" not in text else value


def require_number(values: Mapping[str, Any], key: str, least: float) -> None:
    """Raises UserError: a value is no number, or below `least`."""
    value = values[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < least:
        raise UserError(f"--overrides {key}={value}: give a number of at least {least}")


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table for README.md."""
    lines = [f"| {' | '.join(line)} |" for line in (columns, *rows)]
    return "\n".join([lines[0], "|---" * len(columns) + "|", *lines[1:]])
