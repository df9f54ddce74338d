"""What the tests compose once is what Hydra composes: in a process in which no other test has registered anything."""

import subprocess
import sys
from pathlib import Path


def test_composing():
    checks = Path(__file__).with_name("composing_checks.py")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", checks],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stdout[-2000:]
