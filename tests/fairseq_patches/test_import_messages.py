import pytest

IMPORTS = """
import logging, warnings
logging.basicConfig(level=logging.INFO)
import mlvl_fairseq
import fairseq.models.model_utils
import fairseq.tasks.text_to_speech
import torch
with torch.cuda.amp.autocast(enabled=False):
    list(torch.utils.data.DataLoader([1], pin_memory=True))
warnings.warn("something else", FutureWarning)
logging.getLogger("fairseq.tasks.text_to_speech").info("of use")
"""
LOGGING = """
import logging
{imports}
print(logging.getLevelName(logging.getLogger().level), len(logging.getLogger().handlers))
"""


def test_importing_fairseq_is_silent_and_everything_else_is_not(run_alone, root):
    ended = run_alone("python", "-c", IMPORTS, env={"PYTHONWARNINGS": "default::FutureWarning"}, cwd=root)
    assert ended.returncode == 0
    assert "torch.jit.script" not in ended.stderr and "tensorboardX" not in ended.stderr
    assert "autocast" not in ended.stderr and "pin_memory" not in ended.stderr
    assert "something else" in ended.stderr and "of use" in ended.stderr


@pytest.mark.parametrize(
    "imports, found",
    [
        ("import mlvl_fairseq, fairseq; logging.basicConfig(level=logging.ERROR)", "ERROR 1"),  # as its caller wants
        ("import pkgutil, importlib, mlvl_fairseq.cli, fairseq\n"
         "for module in pkgutil.iter_modules(mlvl_fairseq.cli.__path__, 'mlvl_fairseq.cli.'):\n"
         "    importlib.import_module(module.name)", "WARNING 0"),
        ("import mlvl_fairseq, fairseq_cli.train", "INFO 1"),  # as fairseq's command wants
    ],
)  # fmt: skip
def test_importing_fairseq_leaves_logging_alone(run_alone, root, imports, found):
    ended = run_alone("python", "-c", LOGGING.format(imports=imports), cwd=root)
    assert ended.stdout.splitlines()[-1:] == [found], ended.stderr
