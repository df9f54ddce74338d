"""fairseq-train on several CPU ranks, started in each of the three ways."""

import multiprocessing
import os
import sys

import pytest
import torch
from fairseq.criterions.cross_entropy import CrossEntropyCriterion
from fairseq.dataclass.configs import DistributedTrainingConfig
from fairseq.distributed import utils as distributed
from omegaconf import OmegaConf

from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file
from mlvl_fairseq.fairseq_patches.distributed_on_cpu import _free_port, number_ranks


def weights(folder, name="checkpoint_last.pt"):
    return load_checkpoint_file(folder / name)["model"]


def assert_same_weights(first, second, tolerance):
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=tolerance, msg=name)


@pytest.fixture(scope="module")
def spawned(run_alone, train_options, tmp_path_factory):
    """One epoch on two ranks that fairseq-train starts itself."""
    folder = tmp_path_factory.mktemp("spawned")
    options = ["--distributed-world-size", 2, "--max-epoch", 1, "--save-dir", folder]
    ended = run_alone("fairseq-train", *train_options, *options)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return folder


def test_torchrun_trains_as_spawned_ranks_do(run_alone, train_options, spawned, tmp_path):
    command = ["torchrun", "--nproc_per_node=2", f"--master_port={_free_port()}"]
    program = os.path.join(os.path.dirname(sys.executable), "fairseq-train")
    ended = run_alone(*command, program, *train_options, "--max-epoch", 1, "--save-dir", tmp_path)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert_same_weights(weights(tmp_path), weights(spawned), tolerance=0)


def test_two_ranks_train_as_one_with_twice_the_updates_frequency(run_here, train_options, spawned, tmp_path):
    """Two gradients of one batch each: added up in one process, or reduced over two. Only the order of sums differs."""
    run_here("fairseq-train", *train_options, "--update-freq", 2, "--max-epoch", 1, "--save-dir", tmp_path)
    assert_same_weights(weights(tmp_path), weights(spawned), tolerance=2e-6)


def run_rank(rank, options, entry):
    sys.argv = ["fairseq-train", *map(str, options), "--distributed-rank", str(rank)]
    CrossEntropyCriterion.logging_outputs_can_be_summed = staticmethod(lambda: False)  # so that lists are gathered
    sys.stdout = sys.stderr = open(os.devnull, "w")
    entry()


def test_ranks_started_by_hand_resume_and_gather_lists(train_options, spawned, tmp_path):
    from fairseq_cli.train import cli_main

    options = [*train_options, "--distributed-world-size", 2, "--distributed-no-spawn", "--ddp-backend", "legacy_ddp"]
    options += ["--distributed-init-method", f"tcp://127.0.0.1:{_free_port()}", "--distributed-backend", "gloo"]
    options += ["--restore-file", spawned / "checkpoint_last.pt", "--max-epoch", 2, "--save-dir", tmp_path]
    fork = multiprocessing.get_context("fork")  # has imported everything already
    ranks = [fork.Process(target=run_rank, args=(rank, options, cli_main)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(timeout=60)
    assert [rank.exitcode for rank in ranks] == [0, 0]
    history = load_checkpoint_file(tmp_path / "checkpoint_last.pt")["optimizer_history"]
    assert [entry["num_updates"] for entry in history] == [4, 8]


@pytest.fixture
def options():
    return OmegaConf.structured(DistributedTrainingConfig(distributed_world_size=2))


def test_torchrun_numbers_ranks(options, monkeypatch):
    for name, value in dict(MASTER_ADDR="localhost", MASTER_PORT="1", WORLD_SIZE="4", RANK="3").items():
        monkeypatch.setenv(name, value)
    number_ranks(options)
    found = options.distributed_init_method, options.distributed_world_size, options.distributed_rank, options.device_id
    assert found == ("env://", 4, 3, 0) and options.distributed_no_spawn


@pytest.mark.parametrize("seen, device", [(8, 5), (1, 0)])
def test_torchrun_numbers_ranks_on_gpus(options, monkeypatch, seen, device):
    """The sixth process of the second machine; it sees all GPUs of its machine, or one."""
    env = dict(MASTER_ADDR="host", MASTER_PORT="1", WORLD_SIZE="12", RANK="11", LOCAL_RANK="5", SLURM_NTASKS="2")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    options.distributed_world_size = seen  # fairseq's default
    config = OmegaConf.create({"common": {"cpu": False, "tpu": False}, "distributed_training": options})
    called = []
    monkeypatch.setattr(distributed, "distributed_main", lambda device, main, cfg, kwargs: called.append(device))
    distributed.call_main(config, print)
    options = config.distributed_training
    found = options.distributed_init_method, options.distributed_world_size, options.distributed_rank, options.device_id
    assert found == ("env://", 12, 11, device) and called == [device]
    assert options.distributed_no_spawn and options.distributed_backend == "nccl"


def test_explicit_choices_stay(options):
    options.distributed_init_method, options.distributed_rank, options.distributed_backend = "tcp://host:1", 1, "mpi"
    number_ranks(options)
    assert options.distributed_init_method == "tcp://host:1" and options.distributed_rank == 1
    assert options.distributed_no_spawn and options.distributed_backend == "mpi"
