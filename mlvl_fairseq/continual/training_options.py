"""The options of ``fairseq-train`` behind a line of arguments, and which of them decide what is learned."""

from argparse import Namespace
from typing import Dict, List

from mlvl_fairseq.errors import UserError

# What changes a run's logs, speed or use of a machine, and nothing that is learned: it may be another when a run is
# continued. Everything else that `fairseq-train` knows freezes a run.
WITHOUT_EFFECT = frozenset(
    # what is told, and where
    "no_progress_bar log_interval log_format log_file aim_repo aim_run_hash tensorboard_logdir wandb_project "
    "azureml_logging reset_logging suppress_crashes profile "
    # the machine
    "cpu device_id num_workers num_workers_valid data_buffer_size use_plasma_view plasma_path empty_cache_freq "
    "distributed_port distributed_init_method distributed_backend distributed_no_spawn nprocs_per_node "
    "heartbeat_timeout all_gather_list_size pin_memory "
    # which checkpoints are kept beside the best one
    "keep_interval_updates keep_interval_updates_pattern keep_last_epochs keep_best_checkpoints no_last_checkpoints "
    "write_checkpoints_asynchronously no_epoch_checkpoints".split()
)


def parse_training(arguments: List[str]) -> Namespace:
    """All options of one ``fairseq-train``, defaults included.

    Raises:
        UserError: it does not know one, or not such a value.
    """
    from fairseq import options

    import mlvl_fairseq

    mlvl_fairseq.register()
    parser = options.get_training_parser()
    parser.error = _refuse
    return options.parse_args_and_arch(parser, input_args=list(arguments))


def _refuse(message: str):
    raise UserError(f"fairseq-train: {message}")


def frozen_options(arguments: List[str]) -> Dict[str, object]:
    """The options that decide what is learned.

    Raises:
        UserError: see :func:`parse_training`.
    """
    return {name: value for name, value in vars(parse_training(arguments)).items() if name not in WITHOUT_EFFECT}


def shown(name: str) -> str:
    """``--log-format`` for ``log_format``."""
    return f"--{name.replace('_', '-')}"
