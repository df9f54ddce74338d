import argparse
import shutil

import pytest
from fairseq import utils

from mlvl_fairseq.errors import UserError

ONE_MODULE = """
import argparse, os, sys
{first}
from fairseq import utils
for user_dir in sys.argv[1:]:
    utils.import_user_module(argparse.Namespace(user_dir=user_dir))
    utils.import_user_module(argparse.Namespace(user_dir=user_dir))
import mlvl_fairseq
from fairseq.tasks import TASK_REGISTRY
assert len([name for name in sys.modules if name.endswith("fairseq_patches.patching")]) == 1
assert TASK_REGISTRY["cll_retrieval"].__module__.startswith("mlvl_fairseq.tasks.")
print(os.path.realpath(mlvl_fairseq.__path__[0]))
"""


@pytest.fixture
def linked(root, tmp_path):
    """Another spelling of the package's path."""
    (tmp_path / "link").symlink_to(root, target_is_directory=True)
    return str(tmp_path / "link" / "mlvl_fairseq")


def test_user_dir_from_the_checkout(run_alone, root, user_dir, linked):
    script = ONE_MODULE.format(first="")
    ended = run_alone("python", "-c", script, "mlvl_fairseq", user_dir + "/", linked, cwd=root, env={"PYTHONPATH": ""})
    assert ended.stdout.splitlines()[-1:] == [user_dir], ended.stderr


def test_user_dir_of_the_imported_package(run_alone, root, user_dir, linked, tmp_path):
    script = ONE_MODULE.format(first="import mlvl_fairseq; assert 'torch' not in sys.modules")
    ended = run_alone("python", "-c", script, linked, user_dir, cwd=tmp_path, env={"PYTHONPATH": str(root)})
    assert ended.stdout.splitlines()[-1:] == [user_dir], ended.stderr


def test_second_copy_is_refused(tmp_path):
    (tmp_path / "mlvl_fairseq").mkdir()
    with pytest.raises(UserError, match="already imported from .*mlvl-path"):
        utils.import_user_module(argparse.Namespace(user_dir=str(tmp_path / "mlvl_fairseq")))


def test_missing_user_dir_is_fairseqs_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        utils.import_user_module(argparse.Namespace(user_dir=str(tmp_path / "mlvl_fairseq")))


@pytest.fixture
def train(run_alone, train_options, tmp_path):
    """``train(user_dir, *more options)``: one update of a stock model with this ``--user-dir``, from `tmp_path`."""

    def run(user_dir, *options):
        options = [*train_options, "--max-update", 1, "--save-dir", "save", *options, "--user-dir", user_dir]
        return run_alone("fairseq-train", *options, cwd=tmp_path, env={"PYTHONPATH": ""})

    return run


def test_link_of_another_name(train, root, tmp_path):
    (tmp_path / "plugin").symlink_to(root / "mlvl_fairseq", target_is_directory=True)
    ended = train("plugin/")
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert (tmp_path / "save" / "checkpoint_last.pt").exists()


@pytest.fixture
def copy_as(root, tmp_path):
    ignore = shutil.ignore_patterns("__pycache__")
    return lambda name: shutil.copytree(root / "mlvl_fairseq", tmp_path / name, ignore=ignore)


def test_copy(train, copy_as):
    with open(copy_as("copy/mlvl_fairseq") / "__init__.py", "a") as file:
        file.write("print('the copy')\n")
    ended = train("copy/mlvl_fairseq", "--distributed-world-size", 2)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert ended.stdout.count("the copy") == 3, "the command or one of its two ranks has used another one"


def test_copy_of_another_name_is_refused(train, copy_as):
    ended = train(copy_as("plugin"))
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].endswith("works only if its folder is called mlvl_fairseq")
