import argparse

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
