"""Two and three CPU ranks pre-train CCLM as one process with all rows does: images, regions and parallel text in turns.

Nothing is random in it but hard negatives, of which the likeliest is taken here.
"""

import json
import logging
import math

import pytest
from processes import free_port

from mlvl_fairseq.checkpoints.comparison import largest_difference
from mlvl_fairseq.modules import hard_negatives

LOSS_TOLERANCE = 3e-4  # of losses with four decimals
WEIGHT_TOLERANCE = 1e-4  # a learning rate of 1e-2 has moved weights by up to 3e-2
ROWS = 6  # of all ranks
OPTIONS = (
    "--task cclm_pretraining --arch cclm_tiny --criterion cclm_pretraining --optimizer grouped_adamw --adam-eps 1e-2 "
    "--lr 1e-2 --lr-scheduler fixed --clip-norm 1 --text-dropout 0 --text-attention-dropout 0 --negatives gather "
    "--no-epoch-checkpoints --num-workers 0 --cpu --log-format json --log-interval 1 --max-update 4 "
    "--disable-validation --required-batch-size-multiple 1"
).split()


@pytest.fixture
def train(fork, streams, tmp_path, user_dir, monkeypatch):
    """``train(ranks, *options)`` -> losses of the updates, and the last checkpoint."""
    monkeypatch.setattr(hard_negatives, "draw", lambda weights, generator=None: weights.argmax(1))

    def start(name, ranks, *options):
        folder = tmp_path / name
        folder.mkdir()
        more = [
            "--parallel-text",
            streams / "texts.jsonl",
            "--tokenizer-folder",
            streams / "pieces",
            "--save-dir",
            folder,
        ]
        more += ["--user-dir", user_dir, "--batch-size", ROWS // ranks, "--distributed-world-size", ranks]
        if ranks > 1:
            address = f"tcp://127.0.0.1:{free_port()}"
            more += ["--distributed-no-spawn", "--distributed-init-method", address, "--distributed-backend", "gloo"]
            more += ["--ddp-backend", "legacy_ddp"]
        logs = [folder / f"log.{rank}" for rank in range(ranks)]
        command = ["fairseq-train", *OPTIONS, *more, *options, "--distributed-rank"]
        processes = [fork(log, *command, rank) for rank, log in enumerate(logs)]
        for process, log in zip(processes, logs, strict=True):
            process.join(timeout=120)
            assert process.exitcode == 0, log.read_text()[-3000:]
        lines = [json.loads(line) for line in logs[0].read_text().splitlines() if line.startswith('{"epoch"')]
        return [line for line in lines if "num_updates" in line], folder / "checkpoint_last.pt"

    return start


@pytest.mark.parametrize("ranks, stream", [(2, "image"), (3, "region")])
def test_ranks_train_as_one_process(ranks, stream, train, streams):
    """With different numbers of masked words and of boxes on each rank."""
    options = (
        ["--image-text", streams / "images.jsonl"] if stream == "image" else ["--regions", streams / "regions.jsonl"]
    )
    alone, whole = train("one", 1, *options, "--region-images", ROWS)
    parts, together = train("all", ranks, *options, "--region-images", ROWS // ranks)
    assert [line["num_updates"] for line in alone] == [line["num_updates"] for line in parts] == ["1", "2", "3", "4"]
    names = {
        "image": ["itc", "itm", "mlm"],
        "region": ["itc", "itm", "mlm", "l1", "giou"],
        "text": ["ttc", "ttm", "mlm"],
    }
    for number, (one, other) in enumerate(zip(alone, parts, strict=True)):
        of = stream if number % 2 else "text"
        logged = ["loss", *(f"{of}_{name}" for name in names[of])]
        found, expected = ([float(line[name]) for name in logged] for line in (other, one))
        assert found == pytest.approx(expected, abs=LOSS_TOLERANCE)
    assert largest_difference(whole, together) < WEIGHT_TOLERANCE


def test_all_streams_train_in_half_precision(succeed, streams, user_dir, tmp_path, caplog):
    """The loss after 16 updates is lower than at the beginning, and nothing of it is no number."""
    files = ["--image-text", streams / "images.jsonl", "--regions", streams / "regions.jsonl", "--region-images", ROWS]
    files += ["--parallel-text", streams / "texts.jsonl", "--tokenizer-folder", streams / "pieces"]
    more = ["--user-dir", user_dir, "--save-dir", tmp_path, "--batch-size", ROWS, "--lr", 1e-3, "--max-update", 16]
    with caplog.at_level(logging.INFO):
        succeed("fairseq-train", *OPTIONS, *files, *more, "--bf16")
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "train_inner"]
    values = {}
    for line in lines:
        for name, value in line.items():
            if name.startswith(("text_", "image_", "region_")) and value is not None:
                values.setdefault(name, []).append(float(value))
    assert len(lines) == 16 and len(values) == 3 + 3 + 5
    assert all(math.isfinite(value) for of in values.values() for value in of)
    assert values["text_mlm"][-1] < values["text_mlm"][0] - 0.03
