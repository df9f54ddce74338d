"""Imports follow the flow of data: the arrows of docs/architecture.md."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "mlvl_fairseq"
ADAPTERS = {"tasks", "criterions", "models"}
FORBIDDEN = {
    "modules": ADAPTERS | {"inference", "cli", "continual", "optim"},
    "losses": ADAPTERS | {"inference", "cli", "continual", "optim", "evaluation", "fairseq"},
    "evaluation": ADAPTERS | {"cli", "continual", "optim", "losses", "fairseq"},
    "evaluation/metrics": {"inference", "networks", "checkpoints", "data", "runs"},
    "evaluation/report": {"inference", "networks", "checkpoints", "data"},
    "data": ADAPTERS | {"inference", "cli", "continual", "optim"},
    "checkpoints": ADAPTERS | {"inference", "cli", "continual", "optim"},
    "inference": ADAPTERS | {"cli", "continual"},
    "tasks": {"cli", "inference"},
    "criterions": {"cli", "inference", "tasks"},
    "models": {"cli", "inference", "tasks", "criterions"},
    "continual": {"cli"},
}
MAX_LINES = 400


def imported_rooms(path: Path):
    """First-level packages of ours that a file imports, and ``fairseq``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "mlvl_fairseq" and len(parts) > 1:
                yield parts[1]
            elif parts[0] == "fairseq":
                yield "fairseq"


@pytest.mark.parametrize("room", sorted(FORBIDDEN))
def test_imports_point_downwards(room):
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert files, f"no files in {room}: is the table of rooms out of date?"
    wrong = {
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in files
        for name in imported_rooms(path)
        if name in FORBIDDEN[room]
    }
    assert not wrong


def test_files_can_be_read_in_one_sitting():
    texts = {str(path.relative_to(PACKAGE)): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    assert texts
    assert not {path for path, text in texts.items() if text.count("\n") > MAX_LINES}
