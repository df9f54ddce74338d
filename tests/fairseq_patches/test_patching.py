import contextlib
import importlib
import re
import sys

import pytest

from mlvl_fairseq import fairseq_patches
from mlvl_fairseq.fairseq_patches import patching


@pytest.fixture
def patched_module(tmp_path, monkeypatch):
    """A module ``to_patch`` whose `value` a patch doubles; it is not imported yet."""
    (tmp_path / "to_patch.py").write_text("value = 21\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(patching, "_PATCHES", {})

    @patching.patches("to_patch")
    def double(module):
        module.value *= 2

    yield "to_patch"
    sys.modules.pop("to_patch", None)


def test_patch_after_import_once(patched_module):
    module = importlib.import_module(patched_module)
    assert module.value == 42
    fairseq_patches.apply()
    assert module.value == 42
    assert importlib.reload(module).value == 42


def test_patch_of_what_is_imported_already(patched_module, monkeypatch):
    with monkeypatch.context() as no_finder:
        no_finder.setattr(sys, "meta_path", [f for f in sys.meta_path if not isinstance(f, patching._PatchingFinder)])
        module = importlib.import_module(patched_module)
    assert module.value == 21
    fairseq_patches.apply()
    fairseq_patches.apply()
    assert module.value == 42
    assert sum(isinstance(finder, patching._PatchingFinder) for finder in sys.meta_path) == 1


def test_import_in_a_context(tmp_path, monkeypatch):
    (tmp_path / "to_import.py").write_text("import os\nvalue = os.environ['INSIDE']\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(patching, "_AROUND", {})

    @patching.around_import("to_import")
    @contextlib.contextmanager
    def inside():
        with monkeypatch.context() as environment:
            environment.setenv("INSIDE", "yes")
            yield

    assert importlib.import_module("to_import").value == "yes"
    del sys.modules["to_import"]


PATCHES = sorted({patch.__module__ for registered in patching._PATCHES.values() for patch in registered})


@pytest.mark.parametrize("module", PATCHES)
def test_every_patch_names_the_command_that_breaks(module):
    assert re.search(r"\n\nBreaks without it: ``\w", sys.modules[module].__doc__)
