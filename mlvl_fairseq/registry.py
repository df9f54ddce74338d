"""Things that are chosen by name, each a file of a folder: a registry is a dictionary, its folder is imported whole."""

import importlib
import pkgutil
from typing import Any, Callable, Dict, TypeVar

T = TypeVar("T")


def registering(
    known: Dict[str, Any], what: str, name: str, /, instance: bool = False, **attributes
) -> Callable[[T], T]:
    """A decorator of classes or functions: `known[name]` is what it decorates.

    Args:
        known: the registry. what: stands there, for people. name: as users type it.
        instance: an instance of the class stands there instead. attributes: are set on what is decorated.

    Raises:
        ValueError: the name is taken.
    """

    def register(thing: T) -> T:
        if name in known:
            raise ValueError(f"{what} '{name}' is registered already")
        for attribute, value in attributes.items():
            setattr(thing, attribute, value)
        known[name] = thing() if instance else thing
        return thing

    return register


def import_modules(package: str) -> None:
    """Import every module of a package, so that being there is enough."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        importlib.import_module(module.name)
