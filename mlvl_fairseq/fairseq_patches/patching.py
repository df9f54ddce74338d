"""How patches reach fairseq: each is registered for one module and applied once, right after that module's import."""

import contextlib
import functools
import importlib.abc
import importlib.util
import inspect
import sys
from types import ModuleType
from typing import Callable, ContextManager, Dict, Iterator, List

from mlvl_fairseq.fairseq_patches.shadowing import refuse_shadowed_fairseq

Patch = Callable[[ModuleType], None]
_PATCHES: Dict[str, List[Patch]] = {}
_AROUND: Dict[str, List[Callable[[], ContextManager]]] = {}


def patches(*module_names: str) -> Callable[[Patch], Patch]:
    """Decorator: the function mends each of the named modules, or does nothing where there is nothing to mend."""

    def register(patch: Patch) -> Patch:
        for name in module_names:
            _PATCHES.setdefault(name, []).append(patch)
        return patch

    return register


def around_import(module_name: str) -> Callable[[Callable[[], ContextManager]], Callable[[], ContextManager]]:
    """Decorator: the module is imported inside of the context that the function makes, unless it was before."""

    def register(context: Callable[[], ContextManager]) -> Callable[[], ContextManager]:
        _AROUND.setdefault(module_name, []).append(context)
        return context

    return register


def install_patches() -> None:
    """Patch what is imported already, and watch for the rest."""
    if "fairseq" in sys.modules:
        refuse_shadowed_fairseq(sys.modules["fairseq"].__spec__)
    if not any(isinstance(finder, _PatchingFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PatchingFinder())
    for name in _PATCHES:
        if name in sys.modules:
            _patch(sys.modules[name])


def _patch(module: ModuleType) -> None:
    done = module.__dict__.setdefault("_mlvl_patches", set())
    for patch in _PATCHES.get(module.__name__, ()):
        if patch.__qualname__ not in done:
            done.add(patch.__qualname__)
            patch(module)


class _PatchingFinder(importlib.abc.MetaPathFinder):
    """Lets the usual finders find a module and adds its patches to the end of its import."""

    def __init__(self):
        self._searching = set()

    def find_spec(self, name, path=None, target=None):
        if name in self._searching or not (name in _PATCHES or name in _AROUND or name == "fairseq"):
            return None
        self._searching.add(name)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._searching.discard(name)
        if name == "fairseq":
            refuse_shadowed_fairseq(spec)
        if spec is not None and spec.loader is not None:
            _patch_after_import(spec.loader)
        return spec


def _patch_after_import(loader) -> None:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        loader.exec_module = execute  # a reload comes through the finder again
        module.__dict__.pop("_mlvl_patches", None)  # and brings the unpatched functions back
        with contextlib.ExitStack() as stack:
            for context in _AROUND.get(module.__name__, ()):
                stack.enter_context(context())
            execute(module)
        _patch(module)

    loader.exec_module = exec_module


@contextlib.contextmanager
def left_for_later(*names: str) -> Iterator[None]:
    """Within it, what is imported from these modules are functions that import theirs when they are first called.

    Args:
        names: of modules inside of packages. Those that have been imported already stay as they are.
    """
    before, stand_ins = {}, {}
    for name in names:
        if name in sys.modules:
            continue
        package, _, inner = name.rpartition(".")
        stand_ins.update({package: ModuleType(package), name: _LaterModule(name)})
        setattr(stand_ins[package], inner, stand_ins[name])
        if package in sys.modules:
            before[package] = sys.modules[package]
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]
        sys.modules.update(before)


class _LaterModule(ModuleType):
    """Functions that look for themselves in the real module once they are called."""

    def __getattr__(self, name: str) -> Callable:
        if name.startswith("__"):
            raise AttributeError(name)

        def function(*args, **kwargs):
            return getattr(importlib.import_module(self.__name__), name)(*args, **kwargs)

        return function


class Overlay(ModuleType):
    """A module with some names replaced: mends what one importer sees and leaves the real module alone."""

    def __init__(self, module: ModuleType, **names):
        super().__init__(module.__name__, module.__doc__)
        self.__dict__.update(names, _module=module)

    def __getattr__(self, name: str):
        return getattr(self._module, name)


def wrap(owner, name: str, make: Callable[[Callable], Callable]) -> None:
    """Replace the function, static or class method `owner.name` by ``make(function)``, if there is one."""
    stock = inspect.getattr_static(owner, name, None)
    if stock is None:
        return
    function = getattr(stock, "__func__", stock)
    replacement = functools.wraps(function)(make(function))
    setattr(owner, name, type(stock)(replacement) if stock is not function else replacement)
