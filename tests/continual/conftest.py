import sys
from pathlib import Path

import pytest


@pytest.fixture
def add_file(tmp_path, monkeypatch):
    """``add_file(package, "name", text)``: the package as if this file had been in its folder when it was imported."""
    added = []

    def add(package, name, text):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
        added.append((package, name))
        namespace = {"__name__": package.__name__, "__path__": package.__path__}
        exec(Path(package.__file__).read_text(encoding="utf-8"), namespace)

    yield add
    for package, name in added:
        del sys.modules[f"{package.__name__}.{name}"]
        delattr(package, name)
