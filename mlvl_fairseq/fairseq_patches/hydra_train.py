"""``fairseq-hydra-train`` takes named architectures, says in one line what is wrong with a configuration, stops where
it is told to, and finds ``common.user_dir`` from the directory that it was started in.

Breaks without it: ``fairseq-hydra-train ... model._name=clip_tiny`` (silently a model of ViT-B/32's dimensions: fairseq
fills in all defaults of the dataclass before it asks the architecture), ``model=clip_tiny``, any error (a traceback).
"""

import dataclasses
import difflib
import os
import sys
from argparse import Namespace
from functools import wraps
from pathlib import Path
from typing import Any, Dict, List, Optional, Set

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.fairseq_patches.hydra_overrides import no_such_option, override_message
from mlvl_fairseq.fairseq_patches.missing_options import check_overrides, missing_keys
from mlvl_fairseq.fairseq_patches.patching import patches, wrap
from mlvl_fairseq.process.exit_status import user_message

PACKAGE = Path(__file__).resolve().parents[1]
PARTS = ("task", "model", "criterion", "optimizer", "lr_scheduler")


@patches("fairseq_cli.hydra_train")
def train_with_architectures(module) -> None:
    def make(hydra_main):
        def prepare_and_train(cfg, **kwargs):
            prepare(cfg)
            return hydra_main(cfg, **kwargs)

        return _in_one_line(prepare_and_train)

    wrap(module, "_hydra_main", make)
    module.pre_main = _patched_main


def _patched_main(cfg, **kwargs):
    """fairseq's training with our other patches: `hydra_train` has taken the function before they were there."""
    from fairseq_cli.train import main

    return main(cfg, **kwargs)


@patches("fairseq_cli.train")
def fill_in_before_defaults(module) -> None:
    """Where Hydra did not find our plugin, it is imported by ``common.user_dir``, right before this."""

    def make(add_defaults):
        def add_architecture_and_defaults(cfg):
            fill_in_architecture(cfg)
            return add_defaults(cfg)

        return add_architecture_and_defaults

    wrap(module, "add_defaults", make)


@patches("hydra._internal.utils")
def report_in_one_line(module) -> None:
    """Hydra reports what a configuration lacks in several lines, or with a traceback, and ends with exit status 1."""

    def make(run_and_report):
        def run(func):
            return run_and_report(_in_one_line(func))

        return run

    wrap(module, "run_and_report", make)


def _in_one_line(function):
    """Print what a user can mend in one line and exit with status 2, as everywhere here."""

    @wraps(function)
    def call(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except Exception as error:
            message = user_message(error) or _composition_message(error) or _folder_message(error)
            if message is None:
                raise
        print(f"{os.path.basename(sys.argv[0])}: error: {message}", file=sys.stderr)
        raise SystemExit(2)

    return call


def _folder_message(error: BaseException) -> Optional[str]:
    """Why the system does not let Hydra make the folder of a training; None: it is not about a file."""
    return f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.filename else None


def _composition_message(error: BaseException) -> Optional[str]:
    """What Hydra has to say about a configuration, in one line; None: it is not about that."""
    from hydra.errors import HydraException, OverrideParseException

    if not isinstance(error, HydraException):
        return None
    about_an_option = override_message(error)
    if about_an_option is not None:
        return about_an_option
    causes = [error] if error.__cause__ is None else [error, error.__cause__]
    said = " ".join(line.strip() for cause in causes for line in str(cause).partition("\n\n")[0].splitlines())
    if isinstance(error, OverrideParseException):
        said += f"; in '{error.override}', give a value with such characters in quotes within quotes: \"KEY='VALUE'\""
    return said


def prepare(cfg) -> None:
    """Complete the configuration of a training as composed by Hydra.

    Raises:
        UserError: it names what is not registered, has unknown or wrong values, or lacks one that is required.
    """
    from fairseq.dataclass.initialize import add_defaults
    from omegaconf import open_dict
    from omegaconf.errors import OmegaConfBaseException

    import mlvl_fairseq

    mlvl_fairseq.register()
    with open_dict(cfg):
        cfg.common.user_dir = find_user_dir(cfg.common.user_dir)
        for part in PARTS:
            if isinstance(cfg.get(part), str):  # `criterion: cll_clip` says as much as `criterion: {_name: cll_clip}`
                cfg[part] = {"_name": cfg[part]}
        _check_names(cfg)
        fill_in_architecture(cfg)
    marked = missing_keys(cfg)
    try:
        add_defaults(cfg)
    except OmegaConfBaseException as error:
        raise UserError(_wrong_option(cfg, error)) from None
    check_overrides(marked, cfg)


def _wrong_option(cfg, error) -> str:
    """OmegaConf names an option without its part."""
    key = error.full_key or ""
    part = next((part for part in PARTS if key.partition(".")[0] in (cfg.get(part) or ())), "")
    where, reason = f"{part}.{key}".strip("."), str(error).partition("\n")[0]
    if not reason.startswith("Key "):
        return f"{where}: {reason}"
    given = {name: None for name in cfg[part] if name != key} | {"_name": cfg[part].get("_name")} if part else {}
    return no_such_option(part, key, given) or f"{where}: there is no such option"


def find_user_dir(given: Optional[str]) -> str:
    """``common.user_dir`` as a path that holds in any directory: from where the command was started, as Hydra may have
    left that. None, our package by name, or a link to it are our package. Raises UserError: there is no such folder."""
    if given is None:
        return str(PACKAGE)
    path = _started_in() / given
    if path.exists():
        return str(PACKAGE if path.samefile(PACKAGE) else path)
    if given == PACKAGE.name:
        return str(PACKAGE)
    raise UserError(f"common.user_dir: there is no folder {path}; leave it out, or give {PACKAGE.name}")


def _started_in() -> Path:
    from hydra.core.hydra_config import HydraConfig

    return Path(HydraConfig.get().runtime.cwd) if HydraConfig.initialized() else Path.cwd()


def _registries() -> Dict[str, Dict[str, Any]]:
    from fairseq.models import ARCH_MODEL_REGISTRY, MODEL_REGISTRY
    from fairseq.registry import REGISTRIES
    from fairseq.tasks import TASK_REGISTRY

    others = {part: REGISTRIES[part]["registry"] for part in PARTS if part in REGISTRIES}
    return {"task": TASK_REGISTRY, "model": {**MODEL_REGISTRY, **ARCH_MODEL_REGISTRY}, **others}


def _check_names(cfg) -> None:
    for part, registry in _registries().items():
        name = (cfg.get(part) or {}).get("_name")
        if name is None and part in ("task", "model"):
            raise UserError(
                f"{part}._name is not given{_of_config()}: there are {', '.join(_ours(registry))}, and fairseq's own"
            )
        if name is not None and name not in registry:
            close = difflib.get_close_matches(str(name), registry, n=3)
            hint = f": did you mean {' or '.join(close)}?" if close else ""
            raise UserError(f"{part}._name: there is no {part} '{name}'{hint}")


def _of_config() -> str:
    from hydra.core.hydra_config import HydraConfig

    name = HydraConfig.get().job.config_name if HydraConfig.initialized() else None
    return f" in config {name} (mlvl-options --configs lists ours)" if name else ""


def _ours(registry: Dict[str, type]) -> List[str]:
    return [name for name, cls in registry.items() if cls.__module__.partition(".")[0] == PACKAGE.name]


# Named architectures.
def dimensions_of(architecture: str, **given: Any) -> Dict[str, Any]:
    """What ``--arch`` sets beside the defaults, and what is given."""
    from fairseq.models import ARCH_CONFIG_REGISTRY

    options = Namespace(**given)
    ARCH_CONFIG_REGISTRY[architecture](options)
    return vars(options)


def our_architectures() -> List[str]:
    """Names of the architectures of our models; a model without any is an architecture, too."""
    from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY

    return [name for name in _ours(ARCH_MODEL_REGISTRY) if name in ARCH_CONFIG_REGISTRY]


def store_architectures() -> None:
    """Make ``model=ARCHITECTURE`` (or a defaults list) known to Hydra, with every dimension in it; once, however often
    Hydra asks where configs are."""
    from fairseq.models import ARCH_MODEL_NAME_REGISTRY, MODEL_DATACLASS_REGISTRY
    from hydra.core.config_store import ConfigStore

    stored = ConfigStore.instance().repo.get("model", {})
    for name in our_architectures():
        if getattr(stored.get(f"{name}.yaml"), "provider", None) == PACKAGE.name:
            continue
        options = MODEL_DATACLASS_REGISTRY[ARCH_MODEL_NAME_REGISTRY[name]]
        node = dataclasses.replace(options(), _name=name, **dimensions_of(name))
        ConfigStore.instance().store(name=name, group="model", node=node, provider=PACKAGE.name)


def fill_in_architecture(cfg) -> None:
    """Set what ``model._name`` stands for where the configuration does not say otherwise.

    With ``model=clip model._name=clip_tiny`` Hydra has filled in the defaults of clip: dimensions then count as given
    where they differ from those or are overridden on the command line.
    """
    from omegaconf import open_dict

    model = cfg.get("model")
    name = getattr(model, "get", {}.get)("_name")
    if name not in our_architectures():
        return
    defaults = _chosen_defaults(name)
    with open_dict(model):
        for key, value in dimensions_of(name).items():
            if key not in model or (key in defaults and model[key] == defaults[key]):
                model[key] = value
        given = {key: model[key] for key in model if key.endswith("_tower")}  # others may have no value
        fitting = dimensions_of(name, **given)
        for key, value in dimensions_of(name).items():
            if key not in fitting and model[key] == value and f"model.{key}" not in _overridden():
                model[key] = None  # another tower is chosen, which has no such dimension


def _overridden() -> Set[str]:
    """Names of the options that the command line overrides."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return set()
    return {text.lstrip("+").partition("=")[0] for text in HydraConfig.get().overrides.task}


def _chosen_defaults(name: str) -> Dict[str, Any]:
    """Defaults of the model that was chosen by ``model=...``, if that is not the architecture itself, but for what the
    command line overrides."""
    from fairseq.models import ARCH_MODEL_NAME_REGISTRY, MODEL_DATACLASS_REGISTRY
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return {}
    chosen = HydraConfig.get().runtime.choices.get("model")
    if chosen in (None, "null", name) or ARCH_MODEL_NAME_REGISTRY.get(chosen, chosen) not in MODEL_DATACLASS_REGISTRY:
        return {}
    overridden = _overridden()
    options = MODEL_DATACLASS_REGISTRY[ARCH_MODEL_NAME_REGISTRY.get(chosen, chosen)]()
    defaults = {**vars(options), **(dimensions_of(chosen) if chosen in our_architectures() else {})}
    return {key: value for key, value in defaults.items() if f"model.{key}" not in overridden}
