import pytest

from mlvl_fairseq.errors import UserError


def test_a_folder_that_cannot_be_written_is_one_line():
    from fairseq import checkpoint_utils

    with pytest.raises(UserError, match="--save-dir /proc/checkpoints cannot be written: "):
        checkpoint_utils.verify_checkpoint_directory("/proc/checkpoints")


def test_a_metric_of_a_stock_task_is_not_asked_about(run_here, train_options, tmp_path):
    run_here(
        "fairseq-train", *train_options, "--best-checkpoint-metric", "ppl", "--max-epoch", 1, "--save-dir", tmp_path
    )
    assert (tmp_path / "checkpoint_best.pt").exists()
