"""Two CPU ranks do what one process with twice the batch does.

Both see the same captions in the same order, the contrastive loss is computed over the captions of all ranks, and
gradients are added up. What differs is the order of float32 sums (of rows within a batch, of ranks within a gradient).
That is below 1e-6 of a loss at the first update; Adam divides gradients by their own size, which magnifies rounding
errors in rows that hardly have a gradient, and later losses inherit it.
"""

import json
import socket

import pytest
from checkpoints_compared import largest_difference
from fairseq.trainer import Trainer

from mlvl_fairseq.compat import load_checkpoint_file
from mlvl_fairseq.tasks._validation import RecallCollector

UPDATES = 14
LOSS_TOLERANCE, WEIGHT_TOLERANCE = 1e-6, 1e-5  # relative; absolute, at weights of about 0.02 and a learning rate of 1e-3


@pytest.fixture(autouse=True)
def recorded(monkeypatch):
    """Every process appends its losses, as they are before rounding, and its recalls to a file in its save directory."""
    reduce, rank = Trainer._reduce_and_log_stats, RecallCollector._rank

    def record_losses(self, logs, sample_size, grad_norm=None):
        if self.model.training:
            append(self.cfg, {"loss": float(sum(log["loss"] for log in logs) / sample_size), "rows": int(sample_size)})
        return reduce(self, logs, sample_size, grad_norm)

    def record_recalls(self):
        recalls = rank(self)
        RecallCollector.last = recalls
        return recalls

    monkeypatch.setattr(Trainer, "_reduce_and_log_stats", record_losses)
    monkeypatch.setattr(RecallCollector, "_rank", record_recalls)


def append(cfg, record):
    with open(f"{cfg.checkpoint.save_dir}/curve.{cfg.distributed_training.distributed_rank}", "a") as file:
        print(json.dumps(record), file=file)


def curve(folder, rank=0):
    return [json.loads(line) for line in (folder / f"curve.{rank}").read_text().splitlines()]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def two_ranks(fork, tmp_path):
    """Trains on two ranks, each a process; gives the folder."""

    def train(*options):
        folder = tmp_path / "two"
        folder.mkdir()
        ranks = ["--distributed-world-size", 2, "--distributed-no-spawn", "--distributed-backend", "gloo"]
        ranks += ["--distributed-init-method", f"tcp://127.0.0.1:{free_port()}", "--ddp-backend", "legacy_ddp"]
        options = [*options, *ranks, "--save-dir", folder]
        logs = [folder / f"log.{rank}" for rank in range(2)]
        processes = [
            fork(log, "fairseq-train", *options, "--distributed-rank", rank) for rank, log in enumerate(logs)
        ]
        for process, log in zip(processes, logs):
            process.join(timeout=120)
            assert process.exitcode == 0, log.read_text()[-3000:]
        return folder

    return train


@pytest.fixture(params=["image_text_retrieval", "cll_retrieval"])
def options(request, corpus, cll, english, teacher_options):
    """fairseq-train's arguments for each of the tasks."""
    more = ["--max-epoch", 2, "--batch-size-valid", 5]  # 24 captions: five batches, which two ranks cannot share evenly
    if request.param == "image_text_retrieval":
        return [corpus, *teacher_options, *more]
    return [*cll("de", "en", "cll_clip_with_teir"), "--finetune-from-model", english("cll_clip_with_teir"), *more]


def test_two_ranks_train_as_one_with_twice_the_batch(options, two_ranks, succeed, tmp_path):
    one = tmp_path / "one"
    one.mkdir()
    succeed("fairseq-train", *options, "--batch-size", 16, "--save-dir", one)
    two = two_ranks(*options, "--batch-size", 8)
    alone, together = curve(one), curve(two)
    assert together == curve(two, rank=1)
    print([abs(a["loss"]/b["loss"]-1) for a,b in zip(alone,together)], largest_difference(one / "checkpoint_last.pt", two / "checkpoint_last.pt"))
    assert len(alone) == len(together) == UPDATES
    assert {record["rows"] for record in alone + together} == {16}
    assert [record["loss"] for record in together] == pytest.approx([r["loss"] for r in alone], rel=LOSS_TOLERANCE)
    assert largest_difference(one / "checkpoint_last.pt", two / "checkpoint_last.pt") < WEIGHT_TOLERANCE
    best = [load_checkpoint_file(folder / "checkpoint_last.pt")["extra_state"]["val_loss"] for folder in (one, two)]
    assert best[0] == best[1] > 0
