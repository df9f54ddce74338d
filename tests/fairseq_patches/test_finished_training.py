from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file


def updates(folder):
    return load_checkpoint_file(folder / "checkpoint_last.pt")["optimizer_history"][-1]["num_updates"]


def test_finished_run_trains_no_more_and_goes_on_when_asked(run_here, train_options, tmp_path):
    for limit, expected in [(4, 4), (4, 4), (5, 5)]:  # six updates make an epoch
        run_here("fairseq-train", *train_options, "--max-update", limit, "--save-dir", tmp_path)
        assert updates(tmp_path) == expected
