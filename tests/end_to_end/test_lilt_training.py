"""LilT's optimizer, schedule and limit of samples in fairseq-train."""

import math

import pytest
from processes import updates_of

from mlvl_fairseq.checkpoints.comparison import differing
from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file

EPOCH = 3  # updates of 16 captions each
LR, LOWEST, EPOCHS = 1e-3, 1e-4, 3


@pytest.fixture(scope="module")
def options(corpus, teacher_options):
    """fairseq-train's arguments; the warm-up takes the first epoch in blocks of one update."""
    options = [str(option) for option in teacher_options]
    first = options.index("--optimizer")
    del options[first : options.index("--clip-norm")]
    rates = ["--warmup-init-lr", LOWEST, "--min-lr", LOWEST, "--warmup-blocks", 2, "--warmup-block-updates", 1]
    return [
        *(corpus, *options, "--optimizer", "grouped_adamw", "--lr-scales", "0.5:^vision", "--lr", LR),
        *("--lr-scheduler", "stepped_cosine", *rates, "--max-epoch", EPOCHS, "--disable-validation"),
        *("--limit-samples", EPOCH * 16 + 5, "--negatives", "local", "--positives", "diagonal"),
    ]


@pytest.fixture(scope="module")
def whole(options, succeed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    succeed("fairseq-train", *options, "--save-dir", folder)
    return folder / "checkpoint_last.pt"


def test_a_training_that_is_stopped_within_an_epoch_goes_on_exactly(options, whole, succeed, tmp_path):
    for updates in (1, EPOCH + 1, 1000):
        succeed("fairseq-train", *options, "--max-update", updates, "--save-dir", tmp_path)
        last = tmp_path / "checkpoint_last.pt"
        assert updates_of(last) == min(updates, EPOCHS * EPOCH)
        rate = LOWEST if updates == 1 else (LR - LOWEST) / 2 * (1 + math.cos(math.pi / EPOCHS)) + LOWEST
        groups = load_checkpoint_file(last)["last_optimizer_state"]["param_groups"]
        if updates < 1000:
            assert sorted({group["lr"] for group in groups}) == pytest.approx([rate / 2, rate], rel=1e-12)
    assert differing(last, whole) == []


def test_groups_are_by_name(whole):
    state = load_checkpoint_file(whole)["last_optimizer_state"]
    spared = {name for group in state["param_groups"] if not group["weight_decay"] for name in group["names"]}
    assert {"logit_scale", "vision.class_embedding", "vision.positional_embedding"} < spared
    assert "vision.proj" not in spared and not any(".mlp" in name and name.endswith("weight") for name in spared)


def test_other_groups_than_the_checkpoint_s_are_refused(options, whole, run, tmp_path):
    (tmp_path / "checkpoint_last.pt").write_bytes(whole.read_bytes())
    more = ["--weight-decay-rules", "reference", "--max-epoch", EPOCHS + 1, "--save-dir", tmp_path]
    error = run("fairseq-train", *options, *more).error
    assert error.startswith("the optimizer state in the checkpoint is of other parameters or groups")
