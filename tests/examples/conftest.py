"""Run scripts whose commands are replaced."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


class Stubs:
    """Commands in front of the real ones; what they append to ``log``, a JSON list a line, is read back."""

    def __init__(self, folder: Path):
        self.folder, self.bin, self.log = folder, folder / "bin", folder / "log"
        self.bin.mkdir()

    def add(self, name, text):
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def run(self, script, *arguments, status=0, says="", **environment):
        """Standard output, and the lines of the log. It must end with `status`, and `says` on standard error."""
        self.log.write_text("")
        ended = subprocess.run(
            ["bash", str(script), *arguments], cwd=self.folder, capture_output=True, text=True,
            env={"PATH": f"{self.bin}:/usr/bin:/bin", **environment},
        )  # fmt: skip
        assert ended.returncode == status and says in ended.stderr, ended.stderr
        return ended.stdout, [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture(scope="session")
def answers(tmp_path_factory):
    """What mlvl-options has answered, by its arguments: it takes seconds to start."""
    return tmp_path_factory.mktemp("answers")


OPTIONS = """#!/bin/sh
answer={answers}/$(echo "$*" | md5sum | cut -c1-32)
export PYTHONPATH={root}
if [ ! -e "$answer" ]; then  # scripts ask several times at once
    {python} -m mlvl_fairseq.cli.options "$@" >"$answer.$$" || exit 2
    mv "$answer.$$" "$answer"
fi
cat "$answer"
"""


@pytest.fixture
def stubs(tmp_path, answers, root):
    """The real mlvl-options, and stand-ins for other commands."""
    stubs = Stubs(tmp_path)
    stubs.add("mlvl-options", OPTIONS.format(answers=answers, root=root, python=sys.executable))
    return stubs
