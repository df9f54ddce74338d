IMPORTS = """
import logging, warnings
logging.basicConfig(level=logging.INFO)
import mlvl_fairseq
import fairseq.models.model_utils
import fairseq.tasks.text_to_speech
warnings.warn("something else", FutureWarning)
logging.getLogger("fairseq.tasks.text_to_speech").info("of use")
"""


def test_importing_fairseq_is_silent_and_everything_else_is_not(run_alone, root):
    ended = run_alone("python", "-c", IMPORTS, env={"PYTHONWARNINGS": "default::FutureWarning"}, cwd=root)
    assert ended.returncode == 0
    assert "torch.jit.script" not in ended.stderr and "tensorboardX" not in ended.stderr
    assert "something else" in ended.stderr and "of use" in ended.stderr
