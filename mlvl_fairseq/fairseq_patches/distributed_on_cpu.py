"""Several ranks on a machine without GPU: torchrun, processes started by hand, or spawned by fairseq-train.

fairseq counts GPUs to number its ranks: it divides by zero under torchrun, and spawns no process at all otherwise. It
gathers Python values through buffers on GPUs. And ``--ddp-backend pytorch_ddp``, its default, names a device, which
torch wants on GPUs only. Under torchrun, where a process sees one GPU, it takes itself for the only one, and every rank
trains alone; where it sees several, it takes that of its rank modulo their number, though torchrun says which is its.

Breaks without it: ``fairseq-train ... --cpu --distributed-world-size 2``; ``torchrun --nproc_per_node 2 $(which
fairseq-train) ... --cpu``; ``torchrun --nnodes 2 --nproc_per_node 1 ...`` on machines with a GPU each.
"""

import multiprocessing
import os
import socket

from mlvl_fairseq.fairseq_patches.patching import patches, wrap
from mlvl_fairseq.process.threads import share_threads

_TORCHRUN = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK")


@patches("fairseq.distributed.utils")
def ranks_without_gpu(module) -> None:
    def make(call_main):
        def call_main_anywhere(cfg, main, **kwargs):
            options = cfg.distributed_training
            if not _several_ranks(options) or not _under_torchrun() and (not _on_cpu(cfg) or _under_slurm()):
                return call_main(cfg, main, **kwargs)
            number_ranks(options, _on_cpu(cfg))
            if cfg.distributed_training.distributed_no_spawn:
                return call_main(cfg, main, **kwargs)
            return _spawn(module.distributed_main, cfg, main, kwargs)

        return call_main_anywhere

    wrap(module, "call_main", make)


def _on_cpu(cfg) -> bool:
    import torch

    return not cfg.common.tpu and (cfg.common.cpu or not torch.cuda.is_available())


def _several_ranks(options) -> bool:
    return options.distributed_world_size > 1 or (_under_torchrun() and int(os.environ["WORLD_SIZE"]) > 1)


def _under_torchrun() -> bool:
    return all(name in os.environ for name in _TORCHRUN)


def _under_slurm() -> bool:
    return int(os.environ.get("SLURM_NTASKS", 1)) > 1  # there fairseq's own numbering does not count GPUs


def number_ranks(options, on_cpu: bool = True) -> None:
    """Fill in fairseq's ``distributed_training`` options for ranks on CPUs, or as torchrun numbers them. What is given
    explicitly stays."""
    options.device_id = 0 if on_cpu else _own_gpu()
    if on_cpu and options.distributed_backend == "nccl":  # the default; it knows GPUs only
        options.distributed_backend = "gloo"
    if options.distributed_init_method is not None:  # one process a command
        options.distributed_no_spawn = True
    elif _under_torchrun():
        options.distributed_init_method = "env://"
        options.distributed_world_size = int(os.environ["WORLD_SIZE"])
        options.distributed_rank = int(os.environ["RANK"])
        options.distributed_no_spawn = True
    else:
        port = options.distributed_port if options.distributed_port > 0 else _free_port()
        options.distributed_init_method = f"tcp://localhost:{port}"


def _own_gpu() -> int:
    """A process may see all GPUs of its machine, or its own alone."""
    import torch

    return int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def _spawn(distributed_main, cfg, main, kwargs) -> None:
    import torch

    options = cfg.distributed_training
    start_rank, options.distributed_rank = options.distributed_rank, None  # each process fills in its own
    arguments = (multiprocessing.get_start_method(), distributed_main, main, cfg, {**kwargs, "start_rank": start_rank})
    torch.multiprocessing.spawn(fn=_rank, args=arguments, nprocs=options.distributed_world_size, join=True)


def _rank(index: int, start_method: str, distributed_main, main, cfg, kwargs) -> None:
    # a spawned process would spawn its data loader's workers too, and each would import everything again, every epoch
    multiprocessing.set_start_method(start_method, force=True)
    share_threads(cfg.distributed_training.distributed_world_size)
    distributed_main(index, main, cfg, kwargs)


@patches("fairseq.distributed.utils")
def gather_without_gpu(module) -> None:
    """``all_gather_list`` makes its buffers on a GPU unless it finds buffers there that are large enough."""

    def make(all_gather_list):
        def gather(data, group=None, max_size=16384):
            torch, this = module.torch, module.all_gather_list
            group = group if group is not None else module.get_global_group()
            if torch.distributed.get_backend(group) == "gloo":
                this._buffer = torch.ByteTensor(max_size * module.get_world_size(group))
                this._cpu_buffer = torch.ByteTensor(max_size)
            return all_gather_list(data, group, max_size)

        return gather

    wrap(module, "all_gather_list", make)


@patches("fairseq.models.distributed_fairseq_model")
def without_device_ids(module) -> None:
    def make(data_parallel):
        def build(module, device_ids=None, output_device=None, **options):
            if all(parameter.device.type == "cpu" for parameter in module.parameters()):
                device_ids = output_device = None
            return data_parallel(module, device_ids=device_ids, output_device=output_device, **options)

        return build

    wrap(module, "DistributedDataParallel", make)
