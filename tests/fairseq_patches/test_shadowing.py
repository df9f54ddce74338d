import importlib
from importlib.machinery import PathFinder

import pytest

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.fairseq_patches.shadowing import refuse_shadowed_fairseq


def test_folder_called_fairseq_is_named(tmp_path):
    (tmp_path / "fairseq").mkdir()
    spec = PathFinder.find_spec("fairseq", [str(tmp_path)])
    with pytest.raises(UserError, match=f"the folder {tmp_path / 'fairseq'} hides the fairseq package"):
        refuse_shadowed_fairseq(spec)


def test_real_fairseq_is_accepted():
    refuse_shadowed_fairseq(importlib.import_module("fairseq").__spec__)
    refuse_shadowed_fairseq(None)


@pytest.mark.parametrize("order", ["import mlvl_fairseq, fairseq.tasks", "import fairseq, mlvl_fairseq"])
def test_folder_in_the_working_directory(run_alone, root, tmp_path, order):
    (tmp_path / "fairseq").mkdir()
    (tmp_path / "fairseq" / "__init__.py").write_text("")
    ended = run_alone("python", "-c", order, cwd=tmp_path, env={"PYTHONPATH": str(root)})
    assert f"UserError: the folder {tmp_path / 'fairseq'} hides" in ended.stderr.splitlines()[-1]
