"""A UserError that ends one of fairseq's own commands is printed in one line, and the exit status is 2, as in ours."""

import logging
import os
import re
import sys
from typing import List, Optional, Type

from mlvl_fairseq.errors import UserError, without_line_ends

logger = logging.getLogger(__name__)


def install_excepthook() -> None:
    """Report uncaught UserErrors of fairseq's commands in one line; everything else goes to the hook before."""
    previous = sys.excepthook
    if getattr(previous, "_mlvl", False):
        return

    def report(kind, error, traceback):
        message = user_message(error)
        interactive = hasattr(sys, "ps1") or sys.flags.interactive
        if message is None or interactive or "fairseq_cli" not in sys.modules:
            return previous(kind, error, traceback)
        logger.debug("where it happened", exc_info=(kind, error, traceback))
        print(f"{os.path.basename(sys.argv[0])}: error: {without_line_ends(message)}", file=sys.stderr)
        raise SystemExit(2)  # out of an excepthook this sets the exit status

    report._mlvl = True
    sys.excepthook = report


def user_message(error: BaseException) -> Optional[str]:
    """The message of the UserError that `error` is or stands for, or None if there is none."""
    if isinstance(error, UserError):
        return _raised_elsewhere(str(error)) or str(error)  # a data loader's worker adds its traceback to the message
    if type(error) is Exception and isinstance(error.__context__, UserError):
        return str(error.__context__)  # fairseq's trainer: "Cannot load model parameters from checkpoint"
    if isinstance(error, AssertionError) and str(error).startswith("Must specify batch size"):
        return str(error)  # fairseq-train's own check, which says what to do
    if type(error).__name__ == "InterpolationKeyError":  # of OmegaConf: an option that another part has, or has not
        source = str(error).partition("'")[2].partition("'")[0]
        mine, theirs = (key.partition(".")[0] for key in (error.full_key, source))
        return f"{error.full_key} is taken from {source}, which there is not: this {mine} does not fit this {theirs}"
    if type(error).__name__ == "MissingMandatoryValue":  # of OmegaConf: an option that has no default
        return f"--{str(error.key).replace('_', '-')} is not given; {_help_of(error)}"
    if isinstance(error, RuntimeError) and str(error).startswith("Cannot resume training due to dataloader mismatch"):
        return (
            "--save-dir holds a training on other data, whose batches are others: choose another folder, or delete it"
        )
    if isinstance(error, RuntimeError) and re.search("Connection (closed|reset) by peer", str(error)):  # of gloo
        return "another rank has ended, and says why; without it training cannot go on"
    if type(error).__name__ == "ProcessRaisedException":  # of torch.multiprocessing.spawn
        return _raised_elsewhere(str(error))
    return None


def _help_of(error) -> str:
    field = getattr(error.object_type, "__dataclass_fields__", {}).get(error.key)
    return field.metadata.get("help", "it has no default") if field else "it has no default"


def _raised_elsewhere(text: str) -> Optional[str]:
    """The message in another process's traceback, which arrives as text."""
    kinds = "|".join(re.escape(f"{kind.__module__}.{kind.__name__}") for kind in _kinds(UserError))
    found = re.findall(rf"^(?:{kinds}): (.+)$", text, re.MULTILINE)
    return found[-1] if found else None


def _kinds(error: Type[UserError]) -> List[Type[UserError]]:
    return [error, *(kind for own in error.__subclasses__() for kind in _kinds(own))]
