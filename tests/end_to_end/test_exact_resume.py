"""``benchmarks/exact_resume.py`` on a small scale: three languages with experience replay, killed and started again."""

import importlib.util

import pytest


@pytest.fixture(scope="module")
def benchmark(root):
    spec = importlib.util.spec_from_file_location("exact_resume", root / "benchmarks" / "exact_resume.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def harness(benchmark, corpus, teacher, tmp_path_factory):
    harness = benchmark.Harness(tmp_path_factory.mktemp("resume"), corpus, teacher, "er_with_teir")
    harness.run_undisturbed()
    return harness


@pytest.mark.parametrize("kind, step, update", [("in training", 2, 8), ("while saving", 1, 4), ("in evaluation", 1, 0)])
def test_killed_run_ends_as_if_undisturbed(benchmark, harness, kind, step, update):
    outcome = harness.kill_and_restart(benchmark.Moment(kind, step, update))
    assert (outcome.status, outcome.differences) == (0, [])


def test_control_lost_memory_gives_other_weights(benchmark, harness):
    """Not only another memory: what is replayed after the restart is something else."""
    lose = benchmark.CONTROLS["what is being gathered lost"]
    outcome = harness.kill_and_restart(benchmark.control_moment(harness), lose)
    assert outcome.status == 0 and not outcome.equal
    assert "02-ru/checkpoint_best.pt: model.text.token_embedding.weight" in outcome.differences


def test_control_lost_replay_memory_is_refused(benchmark, harness):
    """The optimizer has moments for the rows that the memory uses."""
    outcome = harness.kill_and_restart(benchmark.control_moment(harness), benchmark.CONTROLS["memory lost"])
    assert outcome.status == 2 and not outcome.equal
