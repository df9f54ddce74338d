import pytest

from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file


def history(folder, epoch):
    return load_checkpoint_file(folder / f"checkpoint{epoch}.pt")["optimizer_history"][-1]


def rate(path):
    return load_checkpoint_file(path)["last_optimizer_state"]["param_groups"][0]["lr"]


@pytest.mark.parametrize("schedule", [["fixed"], ["reduce_lr_on_plateau", "--lr-threshold", 0.9]])
def test_schedule_of_a_resumed_run_is_that_of_a_whole_one(run_here, train_options, tmp_path, schedule):
    """With this threshold no epoch counts as an improvement: the rate shrinks after every one."""
    options = [*train_options, "--lr-scheduler", *schedule]
    run_here("fairseq-train", *options, "--max-epoch", 3, "--save-dir", tmp_path / "whole")
    for epoch in (1, 2, 3):
        run_here("fairseq-train", *options, "--max-epoch", epoch, "--save-dir", tmp_path / "resumed")
        whole, resumed = (history(tmp_path / name, epoch) for name in ("whole", "resumed"))
        assert resumed["lr_scheduler_state"] == whole["lr_scheduler_state"]
    rates = [rate(tmp_path / name / "checkpoint3.pt") for name in ("whole", "resumed")]
    assert rates[0] == rates[1]
