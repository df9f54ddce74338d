"""fairseq uses Hydra in the way of its version 1.0, which the user cannot change: Hydra warns of it at every start, and
reports how it names its jobs, as fairseq turns the root logger to DEBUG. These messages are stopped, nothing else.

Breaks without it: ``fairseq-train``, ``fairseq-hydra-train`` (screens of warnings before the first line of a log). What
``fairseq-hydra-train`` prints while it is imported comes before any code of ours.
"""

import logging
import warnings

from mlvl_fairseq.fairseq_patches.patching import patches

OUTDATED = (
    r"hydra\.experimental\.(initialize|compose)\(\) is no longer experimental",
    r"\s*The version_base parameter is not specified",
    r"In '.*': Usage of deprecated keyword in package header",
    r"\s*The strict flag in the compose API is deprecated",
    r"\s*'.*' is validated against ConfigStore schema",
    r"\s*Future Hydra versions will no longer change working directory",
)


@patches("fairseq.dataclass.initialize")
def be_silent_on_outdated_calls(module) -> None:
    for message in OUTDATED:
        warnings.filterwarnings("ignore", message, UserWarning)


@patches("hydra.core.utils")
def be_silent_on_job_names(module) -> None:
    module.log.addFilter(_is_no_job_name)


def _is_no_job_name(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Setting JobRuntime:")
