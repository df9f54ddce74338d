def test_a(cll, english, succeed, tmp_path, read_json):
    from mlvl_fairseq.compat import load_checkpoint_file
    opts = [*cll("de", "en"), "--finetune-from-model", english("cll_clip"), "--max-update", 9, "--save-dir", tmp_path]
    succeed("fairseq-train", *opts)
    a = load_checkpoint_file(tmp_path / "checkpoint_last.pt")
    print("ZZ", a["optimizer_history"], a["extra_state"]["train_iterator"])
    succeed("fairseq-train", *opts)
    b = load_checkpoint_file(tmp_path / "checkpoint_last.pt")
    print("ZZ", b["optimizer_history"], b["extra_state"]["train_iterator"])
