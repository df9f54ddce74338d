"""Run scripts whose commands are replaced."""

import contextlib
import io
import json
import multiprocessing
import os
import socketserver
import subprocess
import sys
import time
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


CLIENT = """#!{python} -IS
import json, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    with server.makefile("rw") as stream:
        print(json.dumps(sys.argv[1:]), file=stream, flush=True)
        status, out, err = json.loads(stream.readline())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(status)
"""


def serve(address, run_here):
    """Answer what `CLIENT` asks for as mlvl-options does, which takes seconds to start."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            out, err, status = io.StringIO(), io.StringIO(), 0
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    run_here("mlvl-options", *json.loads(self.rfile.readline()))
                except SystemExit as end:
                    status = end.code or 0
            self.wfile.write(json.dumps([status, out.getvalue(), err.getvalue()]).encode() + b"\n")

    socketserver.UnixStreamServer(address, Handler).serve_forever()


@pytest.fixture(scope="session")
def options_client(tmp_path_factory, run_here):
    """A command that stands for mlvl-options: a process that has imported everything already answers."""
    address = str(tmp_path_factory.mktemp("options") / "socket")
    server = multiprocessing.get_context("fork").Process(target=serve, args=(address, run_here), daemon=True)
    server.start()
    while not os.path.exists(address):
        assert server.is_alive()
        time.sleep(0.01)
    yield CLIENT.format(python=sys.executable, address=address)
    server.kill()
    server.join()


@pytest.fixture
def stubs(tmp_path, options_client):
    """mlvl-options, and stand-ins for other commands."""
    stubs = Stubs(tmp_path)
    stubs.add("mlvl-options", options_client)
    return stubs
