"""What `mlvl-*` commands share: error handling, exit statuses, a type of options."""

import argparse
import logging
import os
import sys
from typing import Callable, List, Optional

from mlvl_fairseq.errors import UserError

logger = logging.getLogger(__name__)
if not sys.stderr.isatty():  # in a log every change of a progress bar is a line; tqdm reads this when it is imported
    os.environ.setdefault("TQDM_MININTERVAL", "10")


def run(main: Callable[[Optional[List[str]]], Optional[int]], argv: Optional[List[str]] = None) -> None:
    """Run a command's ``main(argv)`` and turn its outcome into an exit status.

    Status 0: done. 1: finished, but something was found wrong. 2: the user gave something wrong
    (one line on stderr, no traceback). 130: interrupted with Ctrl-C.
    """
    logging.basicConfig(
        format="%(asctime)s | %(levelname)s | %(message)s", datefmt="%H:%M:%S", level=logging.INFO, stream=sys.stderr
    )
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


def tell_written(*paths) -> None:
    """Say which files a command wrote; None stands for one that was not asked for."""
    written = [str(path) for path in paths if path is not None]
    if written:
        logger.info("wrote %s", " ".join(written))


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
