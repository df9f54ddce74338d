"""Work in a child process that starts warm: forked after the imports, so seven languages import torch once.

The parent computes nothing itself: threads of a math library that had run here would hang in a forked child.
"""

import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Callable, Optional

from tqdm import tqdm

from mlvl_fairseq.compat.end_with_parent import end_with_parent
from mlvl_fairseq.compat.exit_status import user_message
from mlvl_fairseq.errors import UserError

POLL_SECONDS = 0.2


def run_job(title: str, function: Callable, log: Path, total: Optional[int] = None) -> None:
    """Run `function()` in a child process; what it prints goes to `log`, its updates to a progress bar.

    Args:
        title: of the progress bar.
        function: what to run; it ends normally or raises.
        log: file to append to; fairseq's JSON lines in it (``num_updates``) drive the bar.
        total: number of updates.

    Raises:
        UserError: it failed; the message holds the log's last line.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    start = log.stat().st_size if log.exists() else 0
    child = multiprocessing.get_context("fork").Process(target=_child, args=(function, log))
    child.start()
    try:
        with tqdm(total=total, desc=title, unit=" updates", disable=total is None) as bar:
            with open(log, "ab+") as file:
                file.seek(start)
                while child.is_alive():
                    _follow(file, bar)
                    child.join(POLL_SECONDS)
                _follow(file, bar)
    except BaseException:
        child.terminate()
        child.join()
        raise
    if child.exitcode:
        raise UserError(f"{title} stopped (exit status {child.exitcode}): {_last_line(log, start)}; log: {log}")


def _child(function: Callable, log: Path) -> None:
    end_with_parent()
    sys.stdout = sys.stderr = file = open(log, "a", encoding="utf-8", buffering=1)
    for descriptor in (1, 2):
        os.dup2(file.fileno(), descriptor)
    try:
        function()
    except Exception as error:
        message = user_message(error)
        if message is None:
            raise
        sys.exit(message)  # the log's last line


def _follow(file, bar: tqdm) -> None:
    for line in file:
        start = line.find(b'{"epoch"')
        if start < 0:
            continue
        try:
            stats = json.loads(line[start:])
            updates = int(stats.get("num_updates", stats.get("train_num_updates")))
        except (ValueError, TypeError):
            continue
        bar.update(updates - bar.n)
        if "loss" in stats:
            bar.set_postfix(loss=stats["loss"])


def _last_line(log: Path, start: int) -> str:
    lines = log.read_bytes()[start:].decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it printed nothing"
