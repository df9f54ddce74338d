import argparse
import importlib
import os
import subprocess
import sys
from importlib.machinery import PathFinder

import numpy as np
import pytest
import torch
from fairseq.data import data_utils
from fairseq.modules.dynamic_crf_layer import DynamicCRF

from mlvl_fairseq import compat
from mlvl_fairseq.compat import exit_status, import_clip, load_checkpoint_file, patching
from mlvl_fairseq.compat.shadowing import refuse_shadowed_fairseq
from mlvl_fairseq.errors import DataError, UserError


# numpy_aliases


def test_numpy_float():
    torch.manual_seed(0)
    crf = DynamicCRF(num_embedding=6, low_rank=2, beam_size=3)
    scores = crf(torch.randn(2, 4, 6), torch.randint(6, (2, 4)), torch.ones(2, 4, dtype=torch.bool))
    assert scores.shape == (2,) and torch.isfinite(scores).all()
    assert not hasattr(np, "float"), "numpy itself must stay as it is"


# incomplete_batches


@pytest.mark.parametrize("size, expected", [(20, [8, 8, 4]), (16, [8, 8]), (5, [5])])
@pytest.mark.parametrize("as_vector", [False, True])
def test_last_batch_is_kept(size, expected, as_vector):
    lengths = np.full(size, 3)
    order = np.arange(size)[::-1].copy()
    batches = data_utils.batch_by_size(
        order,
        None if as_vector else lengths.__getitem__,
        num_tokens_vec=lengths if as_vector else None,
        max_sentences=10,
        required_batch_size_multiple=8,
    )
    assert [len(batch) for batch in batches] == expected
    assert [index for batch in batches for index in batch] == order.tolist()


# clip_import


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


# shadowing


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


# user_dir


ONE_MODULE = """
import argparse, os, sys
{first}
from fairseq import utils
for user_dir in sys.argv[1:]:
    utils.import_user_module(argparse.Namespace(user_dir=user_dir))
    utils.import_user_module(argparse.Namespace(user_dir=user_dir))
import mlvl_fairseq
from fairseq.tasks import TASK_REGISTRY
assert len([name for name in sys.modules if name.endswith("compat.patching")]) == 1
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
    from fairseq import utils

    (tmp_path / "mlvl_fairseq").mkdir()
    with pytest.raises(UserError, match="already imported from .*mlvl-path"):
        utils.import_user_module(argparse.Namespace(user_dir=str(tmp_path / "mlvl_fairseq")))


def test_missing_user_dir_is_fairseqs_error(tmp_path):
    from fairseq import utils

    with pytest.raises(FileNotFoundError):
        utils.import_user_module(argparse.Namespace(user_dir=str(tmp_path / "mlvl_fairseq")))


# precision


@pytest.mark.parametrize("flag, dtype", [("--bf16", torch.bfloat16), ("--amp", torch.float32)])
@pytest.mark.filterwarnings("ignore")
def test_precision_on_cpu(run_here, train_options, tmp_path, flag, dtype):
    run_here("fairseq-train", *train_options, flag, "--max-update", 2, "--save-dir", tmp_path)
    state = load_checkpoint_file(tmp_path / "checkpoint_last.pt")
    assert state["cfg"]["common"]["tpu"] is False
    weights = [tensor for name, tensor in state["model"].items() if name.endswith("weight")]
    assert all(torch.equal(weight, weight.to(dtype).float()) for weight in weights)  # saved as float32 in any case


def test_fp16_on_cpu_says_what_to_do(run_here, train_options, tmp_path):
    with pytest.raises(UserError, match="--fp16 trains on GPUs only"):
        run_here("fairseq-train", *train_options, "--fp16", "--save-dir", tmp_path)


# exit_status


def test_messages_of_user_errors():
    assert exit_status.user_message(DataError("is empty", path="a.txt")) == "a.txt: is empty"
    assert exit_status.user_message(ValueError("bug")) is None
    try:
        try:
            raise UserError("the vocabulary does not fit")
        except UserError:
            raise Exception("Cannot load model parameters from checkpoint")
    except Exception as error:
        assert exit_status.user_message(error) == "the vocabulary does not fit"


@pytest.mark.parametrize("modules, status", [("fairseq_cli", 2), ("sys", 1)])
def test_only_fairseqs_commands_end_without_traceback(root, modules, status):
    script = f"import mlvl_fairseq, {modules}; from mlvl_fairseq.errors import UserError; raise UserError('wrong file')"
    environment = {**os.environ, "PYTHONPATH": str(root)}
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert ended.returncode == status
    assert (ended.stderr == "error: wrong file\n") == (status == 2)


# patching


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
    compat.apply()
    assert module.value == 42
    assert importlib.reload(module).value == 42


def test_patch_of_what_is_imported_already(patched_module, monkeypatch):
    with monkeypatch.context() as no_finder:
        no_finder.setattr(sys, "meta_path", [f for f in sys.meta_path if not isinstance(f, patching._PatchingFinder)])
        module = importlib.import_module(patched_module)
    assert module.value == 21
    compat.apply()
    compat.apply()
    assert module.value == 42
    assert sum(isinstance(finder, patching._PatchingFinder) for finder in sys.meta_path) == 1
