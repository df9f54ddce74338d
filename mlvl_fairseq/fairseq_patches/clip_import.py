"""OpenAI's ``clip`` imports ``packaging`` through ``pkg_resources``, which recent setuptools no longer has.

Breaks without it: ``mlvl-doctor``.
"""

import contextlib
import importlib
import sys
from types import ModuleType

from mlvl_fairseq.errors import UserError


def import_clip() -> ModuleType:
    """The package ``clip`` of openai-clip.

    Raises:
        UserError: it is not installed, or another package of that name is.
    """
    try:
        with _pkg_resources():
            clip = importlib.import_module("clip")
            importlib.import_module("clip.model")
    except ModuleNotFoundError as error:
        if error.name not in ("clip", "clip.model"):
            raise
        clip = sys.modules.get("clip")
    if clip is None:
        raise UserError("OpenAI's clip is not installed: pip install --no-build-isolation openai-clip")
    if not hasattr(clip, "tokenize") or not hasattr(clip, "available_models"):
        place = getattr(clip, "__file__", None) or list(clip.__path__)[0]
        raise UserError(
            f"{place} is not OpenAI's clip but another package of that name: "
            "pip uninstall clip && pip install --no-build-isolation openai-clip"
        )
    return clip


@contextlib.contextmanager
def _pkg_resources():
    """A stand-in with the one thing that clip takes from pkg_resources, for as long as clip is being imported."""
    import packaging.version

    stand_in = ModuleType("pkg_resources")
    stand_in.packaging = packaging
    before = {name: sys.modules[name] for name in ("pkg_resources",) if name in sys.modules}
    sys.modules["pkg_resources"] = stand_in
    try:
        yield
    finally:
        del sys.modules["pkg_resources"]
        sys.modules.update(before)
