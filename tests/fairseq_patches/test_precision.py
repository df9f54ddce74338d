import pytest
import torch

from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file
from mlvl_fairseq.errors import UserError


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
