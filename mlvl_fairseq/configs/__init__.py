"""Recipes as YAML: for ``fairseq-hydra-train --config-name NAME``, and for ``fairseq-train`` as flags.

One file a recipe, whose head says what it gives and with which command. `reference/` holds what the published code has
otherwise, added as ``+reference=NAME``.
"""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Union

from mlvl_fairseq.errors import DataError, UserError, one_line
from mlvl_fairseq.files import read_text
from mlvl_fairseq.json_files import checked

FOLDER = Path(__file__).resolve().parent
FLAGS = {"task": "task", "model": "arch"}  # other parts are chosen by a flag of their own name
MISSING = "???"
MAX_CONFIG = 1 << 20  # bytes


def list_configs() -> Dict[str, str]:
    """The configs that come with the package, and what each is about: the first line of its head."""
    heads = {path.stem: path.read_text(encoding="utf-8").splitlines() for path in sorted(FOLDER.glob("*.yaml"))}
    return {name: lines[0].removeprefix("# ") for name, lines in heads.items()}


def compose_config(name: str, overrides: Sequence[str] = ()) -> Dict[str, Any]:
    """A config with its defaults list and overrides, as Hydra composes it.

    Args:
        name: of a config of ours, or the path of a YAML file.
        overrides: as for ``fairseq-hydra-train``, e.g. ``optimization.lr=[0.001]``, ``+reference=trikd``.

    Returns:
        section -> option -> value; of those options that the config names.

    Raises:
        UserError: there is no such config, it is no YAML of sections and options, or an override does not fit it.
    """
    import yaml
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"no config {name}: give a YAML file, or one of {', '.join(list_configs())}")
    read_text(path, limit=MAX_CONFIG)  # Hydra takes any file, and any time for it
    GlobalHydra.instance().clear()
    ConfigStore.instance().repo.pop(path.name, None)  # fairseq's schema of that name would fill in every default
    try:
        with initialize_config_dir(str(path.resolve().parent), version_base="1.1"):
            config = compose(path.stem, list(overrides))
        composed = OmegaConf.to_container(config, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise DataError(" ".join(f"{error} {error.__cause__ or ''}".split()), path) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise DataError(f"is no YAML of sections and options: {one_line(error)}", path) from None
    sections = checked(composed, Dict[str, Union[str, Dict[str, Any], None]], path)
    for section, options in sections.items():
        if isinstance(options, dict):
            checked(options.get("_name"), Optional[str], path, f"{section}._name")
    return sections


def as_flags(config: Dict[str, Any], where: str) -> List[str]:
    """The ``fairseq-train`` arguments that a config stands for; what it leaves open (``???``) is left out.

    Args:
        config: as :func:`compose_config` gives it. where: its name, for messages.

    Raises:
        DataError: an option that does not exist, or has no flag.
    """
    arguments: List[str] = []
    for section, options in config.items():
        options = {"_name": options} if isinstance(options, str) else dict(options or {})
        if section not in _core_sections() and "_name" in options:
            arguments += [f"--{FLAGS.get(section, section).replace('_', '-')}", options["_name"]]
        actions = _actions(section, options.pop("_name", None), where)
        for option, value in options.items():
            if option not in actions:
                raise DataError("no such option, or none with a flag of its own", where, field=f"{section}.{option}")
            arguments += _flag(actions[option], value)
    return arguments


def still_to_give(config: Dict[str, Any], where: str) -> List[str]:
    """The ``fairseq-train`` arguments that a config needs and leaves open, e.g. ``["DATA", "--lang LANG"]``: what it
    marks ``???``, and options without a default that it does not name."""
    needed: List[str] = []
    for section, options in config.items():
        options = {"_name": options} if isinstance(options, str) else dict(options or {})
        for option, action in _actions(section, options.get("_name"), where).items():
            if options.get(option, action.default) == MISSING:
                value = action.metavar or option.upper()
                needed.append(f"{action.option_strings[0]} {value}" if action.option_strings else value)
    return needed


def dataclass_of(section: str, name: Optional[str] = None) -> Optional[type]:
    """The options of a section of fairseq's configuration, by `name` (``_name``) of a task, model, ...; or None."""
    from fairseq.models import ARCH_MODEL_NAME_REGISTRY, MODEL_DATACLASS_REGISTRY
    from fairseq.registry import REGISTRIES
    from fairseq.tasks import TASK_DATACLASS_REGISTRY

    if section in _core_sections():
        return _core_sections()[section]
    if section == "task":
        return TASK_DATACLASS_REGISTRY.get(name)
    if section == "model":
        return MODEL_DATACLASS_REGISTRY.get(ARCH_MODEL_NAME_REGISTRY.get(name, name))
    return REGISTRIES.get(section, {"dataclass_registry": {}})["dataclass_registry"].get(name)


def _core_sections() -> Dict[str, type]:
    from fairseq.dataclass.configs import FairseqConfig

    return {name: field.type for name, field in FairseqConfig.__dataclass_fields__.items() if field.type is not Any}


def _actions(section: str, name, where: str) -> Dict[str, Any]:
    """What argparse does with each option of a section."""
    from fairseq.dataclass.utils import gen_parser_from_dataclass

    options = dataclass_of(section, name)
    if options is None:
        raise DataError(f"there is no {section} '{name}'", where, field=f"{section}._name")
    parser = ArgumentParser(add_help=False)
    gen_parser_from_dataclass(parser, options())
    return {action.dest: action for action in parser._actions}


def _flag(action, value: Any) -> List[str]:
    if value is None or value == MISSING:
        return []
    if not action.option_strings:  # the data, which has no flag
        return [str(value)]
    if action.nargs == 0:  # a switch
        return [action.option_strings[0]] if value != action.default else []
    return [action.option_strings[0], str(value)]
