"""What the commands share."""

import logging
import os
import signal

import pytest

from mlvl_fairseq.cli import common
from mlvl_fairseq.cli.common import describe_error, tell_written
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.files import atomic_path

BARS = """
import mlvl_fairseq.cli.common, sys, time
from tqdm import tqdm
for _ in tqdm(range(20)):
    time.sleep(0.02)
"""


def test_written_files_are_told(caplog):
    with caplog.at_level(logging.INFO):
        tell_written(None, "a.json", None, "b.png")
        tell_written(None)
    assert [record.getMessage() for record in caplog.records] == ["wrote a.json b.png"]


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_command_that_is_stopped_leaves_nothing_half(tmp_path, capsys, number, status):
    def main(argv):
        with atomic_path(tmp_path / "file") as temporary:
            temporary.write_bytes(b"half")
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended:
        common.run(main)
    assert ended.value.code == status and not os.listdir(tmp_path) and signal.getsignal(number) == before
    assert capsys.readouterr().err.endswith(": interrupted; the same command continues where it stopped\n")


def test_progress_bars_in_a_log_are_a_few_lines(run_alone, root):
    """The empty bar and the full one; on a terminal a bar changes as often as usual."""
    ended = run_alone("python", "-c", BARS, cwd=root)
    assert ended.returncode == 0 and len(ended.stderr.replace("\r", "\n").split("\n")) <= 4
    often = run_alone("python", "-c", BARS, cwd=root, env={"TQDM_MININTERVAL": "0.01"})
    assert len(often.stderr.replace("\r", "\n").split("\n")) > 10


@pytest.mark.parametrize(
    "error, said",
    [
        (UserError("'a\nb\r' is no order"), r"'a\nb\r' is no order"),
        (OSError(28, "No space left on device", "a\nb"), r"No space left on device: a\nb"),
    ],
)
def test_what_is_quoted_cannot_break_the_line(error, said):
    assert describe_error(error) == said
