"""What the commands share."""

import logging
import os
import signal
import subprocess
import sys

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


WRONG = "raise UserError('the file is wrong')"
PRINTS = """
import sys
from mlvl_fairseq.cli.common import run
from mlvl_fairseq.errors import UserError
def main(argv):
    for line in range(LINES):
        print(line)
    ENDS
run(main)
"""


@pytest.mark.parametrize(
    "lines, ends, unbuffered, status, said",
    [
        (1, "return 0", "", 141, ""),  # fewer than are written at once: it is found at the end
        (1, "sys.exit()", "", 141, ""),  # as argparse's --help
        (100_000, WRONG, "", 141, ""),  # it has not come so far
        (1, "return 0", "1", 141, ""),
        (1, WRONG, "", 2, "-c: error: the file is wrong\n"),
    ],
)
def test_output_that_nobody_reads_ends_a_command_quietly(root, lines, ends, unbuffered, status, said):
    program = PRINTS.replace("LINES", str(lines)).replace("ENDS", ends)
    read, write = os.pipe()
    os.close(read)
    options = {"env": {**os.environ, "PYTHONUNBUFFERED": unbuffered}, "cwd": root, "timeout": 60, "text": True}
    with open(write, "w") as output:
        ended = subprocess.run([sys.executable, "-c", program], stdout=output, stderr=subprocess.PIPE, **options)
    assert (ended.returncode, ended.stderr) == (status, said)


def test_a_pipe_that_is_not_the_output_s_is_told(capsys):
    def main(argv):
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(SystemExit) as ended:
        common.run(main)
    assert ended.value.code == 2 and capsys.readouterr().err.endswith(": error: Broken pipe\n")
