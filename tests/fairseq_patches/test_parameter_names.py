import pytest

from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file


@pytest.fixture
def groups(run_here, train_options, tmp_path):
    """``groups(*options)``: names and decay of the optimizer's groups in a checkpoint of a training."""

    def train(*options):
        options = [*train_options, "--optimizer", "grouped_adamw", "--max-update", 2, *options]
        run_here("fairseq-train", *options, "--save-dir", tmp_path)
        return load_checkpoint_file(tmp_path / "checkpoint_last.pt")["last_optimizer_state"]["param_groups"]

    return train


@pytest.mark.parametrize("precision", [[], ["--bf16"], ["--amp"]])
def test_an_optimizer_gets_the_names_of_parameters(groups, precision):
    spared, decaying = groups("--weight-decay-rules=-embed_tokens", *precision)
    assert (spared["weight_decay"], decaying["weight_decay"]) == (0, 0.02)
    matrices = [name for name in spared["names"] if "norm" not in name and not name.endswith("bias")]
    assert matrices and all("embed_tokens" in name for name in matrices)
    assert decaying["names"] and not any("embed_tokens" in name or name.endswith("bias") for name in decaying["names"])
