"""``benchmarks/exact_resume.py`` on a small scale: three languages with experience replay, killed and started again.

Languages before the one in which a run is killed are copied from the undisturbed run: they are done once.
"""

import importlib.util
import shutil

import pytest


@pytest.fixture(scope="module")
def benchmark(root):
    spec = importlib.util.spec_from_file_location("exact_resume", root / "benchmarks" / "exact_resume.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def harness(benchmark, corpus, teacher, composed, tmp_path_factory):
    harness = benchmark.Harness(tmp_path_factory.mktemp("resume"), corpus, teacher, "er_with_teir")
    harness.run_undisturbed()
    return harness


@pytest.fixture(scope="module")
def in_training(benchmark, harness):
    """A run that was killed in the middle of the last language, when there is a memory of all earlier ones."""
    moment = benchmark.control_moment(harness)
    assert harness.kill(moment)
    shutil.move(harness.killed, harness.folder / "in_training")
    return moment, harness.folder / "in_training"


@pytest.fixture
def restart(harness, in_training):
    """``restart(lose)``: go on with it, perhaps after something has been lost."""

    def go_on(lose=None):
        moment, run = in_training
        shutil.rmtree(harness.killed, ignore_errors=True)
        shutil.copytree(run, harness.killed)
        return harness.restart(moment, lose)

    return go_on


def test_a_run_killed_in_training_ends_as_if_undisturbed(restart):
    outcome = restart()
    assert (outcome.status, outcome.differences) == (0, [])


@pytest.mark.parametrize("kind, step, update", [("while saving", 1, 4), ("in evaluation", 2, 0)])
def test_killed_run_ends_as_if_undisturbed(benchmark, harness, kind, step, update):
    outcome = harness.kill_and_restart(benchmark.Moment(kind, step, update))
    assert (outcome.status, outcome.differences) == (0, [])


def test_control_lost_memory_gives_other_weights(benchmark, restart):
    """Not only another memory: what is replayed after the restart is something else."""
    outcome = restart(benchmark.CONTROLS["what is being gathered lost"])
    assert outcome.status == 0 and not outcome.equal
    assert "02-ru/checkpoint_best.pt: model.text.token_embedding.weight" in outcome.differences


def test_control_lost_replay_memory_is_refused(benchmark, restart):
    """The optimizer has moments for the rows that the memory uses."""
    outcome = restart(benchmark.CONTROLS["memory lost"])
    assert outcome.status == 2 and not outcome.equal
