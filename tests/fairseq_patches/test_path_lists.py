"""Folders and option values that fairseq would read as something else."""

import argparse

import pytest
from fairseq import utils
from fairseq.dataclass.utils import override_module_args

from mlvl_fairseq.errors import UserError


def test_a_path_that_is_there_is_one(tmp_path):
    (tmp_path / "a:b").mkdir()
    assert utils.split_paths(str(tmp_path / "a:b")) == [f"{tmp_path}/a:b"]
    assert utils.split_paths(f"{tmp_path}/a:{tmp_path}/b") == [f"{tmp_path}/a", f"{tmp_path}/b"]


@pytest.mark.parametrize("value", ["/runs/a${b}c", "${a}/b", "/runs/a\\", "/runs/a\\'b", "\\${a}"])
def test_values_that_hydra_would_read(value):
    with pytest.raises(UserError, match="^--save-dir .* choose a path without"):
        override_module_args(argparse.Namespace(save_dir=value))


AS_THEY_ARE = ["/runs/a$b", "/runs/{b}", "/runs/a\\b", "/runs/a'b", "/runs/a b%#*[c],=", "${common.seed}"]


@pytest.mark.parametrize("value", AS_THEY_ARE)
def test_other_values_stay_as_they_are(value):
    override_module_args(argparse.Namespace(save_dir=value))
