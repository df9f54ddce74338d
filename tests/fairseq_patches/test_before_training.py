def test_a_metric_of_a_stock_task_is_not_asked_about(run_here, train_options, tmp_path):
    run_here(
        "fairseq-train", *train_options, "--best-checkpoint-metric", "ppl", "--max-epoch", 1, "--save-dir", tmp_path
    )
    assert (tmp_path / "checkpoint_best.pt").exists()
