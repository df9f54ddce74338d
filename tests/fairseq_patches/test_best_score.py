def test_an_earlier_training_in_the_process_is_no_measure(run_here, train_options, tmp_path):
    from fairseq import checkpoint_utils

    checkpoint_utils.save_checkpoint.best = -1.0  # a loss that no training reaches
    run_here("fairseq-train", *train_options, "--max-update", 2, "--save-dir", tmp_path)
    assert (tmp_path / "checkpoint_best.pt").exists()
