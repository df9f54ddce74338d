"""Registries: what is decorated is known by its name; a folder is imported whole."""

import sys

import pytest

from mlvl_fairseq.registry import import_modules, registering


def test_a_class_or_an_instance_of_it_is_known():
    known = {}

    @registering(known, "a thing", "one", name="one", help="does it")
    class One:
        pass

    @registering(known, "a thing", "two", instance=True)
    class Two:
        pass

    assert known["one"] is One and (One.name, One.help) == ("one", "does it") and isinstance(known["two"], Two)
    with pytest.raises(ValueError, match="a thing 'one' is registered already"):
        registering(known, "a thing", "one", name="other")(Two)
    assert known["one"] is One and not hasattr(Two, "name")


def test_every_module_of_a_folder_is_imported(tmp_path, monkeypatch):
    (tmp_path / "of_many").mkdir()
    for name in ("__init__", "a", "b"):
        (tmp_path / "of_many" / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("of_many", "of_many.a", "of_many.b"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import_modules("of_many")
    assert {"of_many.a", "of_many.b"} <= set(sys.modules)
