import sys

import pytest

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.fairseq_patches import import_clip


@pytest.fixture
def clip_not_imported(monkeypatch):
    for name in [name for name in sys.modules if name == "clip" or name.startswith("clip.")]:
        monkeypatch.delitem(sys.modules, name)


def test_clip_without_pkg_resources(clip_not_imported, monkeypatch):
    monkeypatch.setitem(sys.modules, "pkg_resources", None)  # `import pkg_resources` raises ImportError
    assert import_clip().tokenize("a cat").shape == (1, 77)
    assert sys.modules["pkg_resources"] is None, "the stand-in must not stay"


def test_clip_with_pkg_resources(clip_not_imported, monkeypatch):
    pkg_resources = type(sys)("pkg_resources")
    monkeypatch.setitem(sys.modules, "pkg_resources", pkg_resources)
    assert "ViT-B/32" in import_clip().available_models()
    assert sys.modules["pkg_resources"] is pkg_resources


@pytest.mark.parametrize("with_model", [False, True])
def test_another_package_called_clip(clip_not_imported, monkeypatch, tmp_path, with_model):
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "__init__.py").write_text("")
    if with_model:
        (tmp_path / "clip" / "model.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=f"{tmp_path}.*not OpenAI's clip.*pip uninstall clip"):
        import_clip()
