"""Imports are not interrupted by a look for garbage; only commands keep what they import for good."""

import gc
import sys

import pytest

from mlvl_fairseq.fairseq_patches.no_garbage import COMMANDS, keep_what_is_imported, look_for_none


@pytest.fixture
def not_a_command(monkeypatch):
    for name in COMMANDS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    gc.unfreeze()  # what other tests have kept
    yield monkeypatch
    gc.unfreeze()


@pytest.mark.parametrize("looking", [True, False])
def test_it_is_looked_for_again(not_a_command, looking):
    (gc.enable if looking else gc.disable)()
    try:
        with look_for_none():
            assert not gc.isenabled()
        assert gc.isenabled() == looking and not gc.get_freeze_count()
    finally:
        gc.enable()


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_keep_what_is_imported(not_a_command, name):
    keep_what_is_imported()
    assert not gc.get_freeze_count()
    not_a_command.setitem(sys.modules, name, sys)
    with look_for_none():
        pass
    assert gc.get_freeze_count()
