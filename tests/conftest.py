"""Fixtures for all tests: fairseq's and our own commands, run in this process (fast) or in one of their own."""

import importlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# A shell starts its background jobs with Ctrl-C ignored, which the tests of interruptions would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
USER_DIR = ROOT / "mlvl_fairseq"


def pytest_collection_modifyitems(items):
    """Whole trainings first: when they come last, one process is at work on them and the others on nothing."""
    items.sort(key=lambda item: item.path.parent.name != "end_to_end")


@pytest.fixture(scope="session")
def root():
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def user_dir():
    """What ``mlvl-path`` prints."""
    return str(USER_DIR)


@pytest.fixture(scope="session")
def run_here():
    """``run_here("fairseq-train", *arguments)`` runs the command's entry point in this process."""

    def run(command, *arguments):
        package = "fairseq_cli" if command.startswith("fairseq-") else "mlvl_fairseq.cli"
        entry = importlib.import_module(f"{package}.{command.partition('-')[2].replace('-', '_')}")
        from composing import compose_once

        compose_once()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [command, *map(str, arguments)])
            return entry.cli_main()

    return run


@pytest.fixture(scope="session")
def run_alone():
    """``run_alone(*command, **options of subprocess.run)`` runs a command in a process of its own. ``fairseq-train``
    and the like are taken from this Python's environment, ``python`` is this Python."""

    def run(*command, timeout=120, env=None, **options):
        folder = Path(sys.executable).parent
        program = sys.executable if command[0] == "python" else str(folder / command[0])
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", **(env or {})}
        arguments = [program, *map(str, command[1:])]
        return subprocess.run(arguments, capture_output=True, text=True, timeout=timeout, env=environment, **options)

    return run


@pytest.fixture(scope="session")
def published_program(root):
    """The module of examples/cclm/run.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root / "examples" / "cclm"))
        return importlib.import_module("run")


@pytest.fixture(scope="session")
def translation_data(run_here, tmp_path_factory):
    """A binarized translation corpus: 60, 20 and 20 sentences of letters; the target is the source backwards."""
    folder = tmp_path_factory.mktemp("translation")
    rng = random.Random(0)
    for split, size in (("train", 60), ("valid", 20), ("test", 20)):
        sentences = [rng.choices("abcdefghij", k=rng.randint(3, 7)) for _ in range(size)]
        (folder / f"{split}.src").write_text("".join(" ".join(s) + "\n" for s in sentences))
        (folder / f"{split}.tgt").write_text("".join(" ".join(reversed(s)) + "\n" for s in sentences))
    files = [f"--{split}pref={folder / split}" for split in ("train", "valid", "test")]
    run_here("fairseq-preprocess", "-s=src", "-t=tgt", *files, f"--destdir={folder / 'bin'}")
    return folder / "bin"


@pytest.fixture(scope="session")
def small_clip(tmp_path_factory):
    """An official CLIP file of one layer a tower, with CLIP's vocabulary and ViT-B/32's 512 dimensions."""
    import torch

    from mlvl_fairseq.fairseq_patches import import_clip

    torch.manual_seed(0)
    model = import_clip().model.CLIP(512, 32, 1, 64, 8, 77, 49408, 64, 1, 1)
    path = tmp_path_factory.mktemp("clip") / "ViT-B-32.pt"
    torch.save({**model.state_dict(), "context_length": torch.tensor(77)}, path)
    return path


@pytest.fixture
def add_file(tmp_path, monkeypatch):
    """``add_file(package, "name", text)``: the package as if this file had been in its folder when it was imported."""
    added = []

    def add(package, name, text):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
        added.append((package, name))
        namespace = {"__name__": package.__name__, "__path__": package.__path__}
        exec(Path(package.__file__).read_text(encoding="utf-8"), namespace)

    yield add
    for package, name in added:
        del sys.modules[f"{package.__name__}.{name}"]
        delattr(package, name)
