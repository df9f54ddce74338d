"""What `mlvl-*` commands share: error handling, exit statuses, a type of options."""

import argparse
import logging
import os
import sys
import warnings
from typing import Callable, List, Optional

from mlvl_fairseq.errors import UserError


def run(main: Callable[[Optional[List[str]]], Optional[int]], argv: Optional[List[str]] = None) -> None:
    """Run a command's ``main(argv)`` and turn its outcome into an exit status.

    Status 0: done. 1: finished, but something was found wrong. 2: the user gave something wrong
    (one line on stderr, no traceback). 130: interrupted with Ctrl-C.
    """
    logging.basicConfig(
        format="%(asctime)s | %(levelname)s | %(message)s", datefmt="%H:%M:%S", level=logging.INFO, stream=sys.stderr
    )
    logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)  # advertises tensorboardX
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*")  # fairseq's business, not the user's
    name = os.path.basename(sys.argv[0])
    try:
        sys.exit(main(argv) or 0)
    except UserError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"{name}: error: {describe_os_error(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{name}: interrupted; the same command continues where it stopped", file=sys.stderr)
        sys.exit(130)


def describe_os_error(error: OSError) -> str:
    """``No space left on device: FILE`` instead of ``[Errno 28] ...``."""
    reason = error.strerror or str(error)
    return f"{reason}: {error.filename}" if error.filename else reason


def positive(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    return _whole_number(text, 1)


def not_negative(text: str) -> int:
    """An argparse type: a whole number of at least 0."""
    return _whole_number(text, 0)


def _whole_number(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least {least}")
    return int(text)
