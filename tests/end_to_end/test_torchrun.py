"""Ranks that torchrun starts: of a language within a sequence, and again when one of them is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import needs_proc, updates_in, updates_of

from mlvl_fairseq.checkpoints.comparison import differing

UPDATES = 18


def children_of(parent):
    """Process ids, those that have ended left out."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, ppid = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it ends just now
            continue
        if int(ppid) == parent and state not in "ZX":
            found.append(int(path.parent.name))
    return sorted(found)


@needs_proc
def test_all_ranks_go_on_from_the_last_checkpoint(cll, fork, tmp_path):
    """The undisturbed ranks are forked: torchrun's are the same, see test_distributed_on_cpu.py."""
    binaries = Path(sys.executable).parent
    often = ["--max-epoch", 100, "--max-update", UPDATES, "--save-interval-updates", 3, "--log-interval", 1]
    options = [*cll("en", None, "cll_clip_with_teir_update"), *often, "--keep-interval-updates", 1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # see docs/scale.md

    command = [binaries / "torchrun", "--standalone", "--nproc_per_node=2", "--max-restarts=1"]
    command += [binaries / "fairseq-train", *options, "--save-dir", tmp_path / "killed"]
    log = tmp_path / "killed.log"
    with (
        log.open("w") as file,
        subprocess.Popen([*map(str, command)], env=environment, stdout=file, stderr=subprocess.STDOUT) as agent,
    ):
        end = time.monotonic() + 240
        while updates_in(log) < UPDATES // 2:
            assert agent.poll() is None and time.monotonic() < end, log.read_text()[-3000:]
            time.sleep(0.05)
        os.kill(children_of(agent.pid)[-1], signal.SIGKILL)
        assert agent.wait(timeout=240) == 0, log.read_text()[-3000:]
    assert "Loaded checkpoint" in log.read_text()
    whole = ["--save-dir", tmp_path / "whole", "--distributed-world-size", 2, "--distributed-no-spawn"]
    whole += ["--distributed-init-method", f"file://{tmp_path}/ranks"]
    logs = [tmp_path / f"log.{rank}" for rank in range(2)]
    ranks = [fork(log, "fairseq-train", *options, *whole, "--distributed-rank", r) for r, log in enumerate(logs)]
    for rank, log in zip(ranks, logs):
        rank.join(timeout=240)
        assert rank.exitcode == 0, log.read_text()[-3000:]
    last = [tmp_path / name / "checkpoint_last.pt" for name in ("killed", "whole")]
    assert updates_of(last[0]) == updates_of(last[1]) == UPDATES and differing(*last) == []


def test_a_sequence_whose_trainings_another_command_starts(learn, run, corpus, sequence_options, tmp_path):
    """Weights are those of ranks that fairseq-train starts itself."""
    ranks = ["--max-update", 2, "--distributed-world-size", 2]
    torchrun = f"{sys.executable} -m torch.distributed.run --standalone --nproc_per_node=2"
    own, launched = tmp_path / "own", tmp_path / "launched"
    learn(own, "cll_clip", "en", *ranks)
    learn(launched, "cll_clip", "en", *ranks, "--launch", torchrun)
    assert differing(*(folder / "00-en" / "checkpoint_best.pt" for folder in (own, launched))) == []
    assert "distributed init (rank 1): env://" in (launched / "00-en" / "train.log").read_text()


@pytest.mark.parametrize(
    "launch, named",
    [(["nosuch --nodes 2", "--distributed-world-size", 2], "--launch nosuch --nodes 2: nosuch: No such file"),
     (["torchrun"], "say with --distributed-world-size how many ranks")],
)  # fmt: skip
def test_what_cannot_be_launched(run, corpus, sequence_options, tmp_path, launch, named):
    options = ["--method", "cll_clip", "--order", "en", "--max-update", 1, *sequence_options, "--launch", *launch]
    assert named in run("mlvl-cll", corpus, tmp_path / "run", *options).error
