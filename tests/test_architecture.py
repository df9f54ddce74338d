"""Imports point down: the arrows of docs/architecture.md."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "mlvl_fairseq"
MAX_LINES = 400

# What each room may import. A room is a folder, a folder of `evaluation/`, or a file beside them.
GROUND = {
    "errors",
    "codes",
    "files",
    "digests",
    "json_files",
    "arrays",
    "needs",
    "options",
    "version",
    "docstrings",
    "registry",
}
CORE = GROUND | {"data", "modules", "checkpoints", "distributed"}
ARROWS = {
    "errors": set(),
    "codes": {"errors"},
    "version": set(),
    "registry": set(),
    "files": {"errors"},
    "needs": set(),
    "digests": {"errors", "files"},
    "json_files": {"errors", "files"},
    "arrays": {"errors", "files", "digests"},
    "options": {"errors"},
    "docstrings": set(),
    "distributed": set(),
    "process": {"errors"},
    "runs": GROUND | {"process"},
    "picture_world": GROUND,
    "modules": GROUND | {"fairseq"},
    "losses": {"errors", "modules", "distributed", "registry"},
    "data": GROUND | {"process", "fairseq"},
    "checkpoints": GROUND | {"data", "modules"},
    "networks": CORE | {"fairseq"},
    "inference": CORE | {"networks", "runs"},
    "export": CORE | {"networks", "inference", "runs", "process", "fairseq"},  # which loads exports of XLM-Rs
    "evaluation": GROUND,  # the signature
    "evaluation/metrics": GROUND | {"evaluation"},
    "evaluation/report": GROUND | {"evaluation", "runs"},
    "evaluation/evaluators": CORE | {"evaluation", "inference", "runs"},
    "optim": {"errors", "options", "fairseq"},
    "continual": CORE | {"losses", "networks", "inference", "evaluation", "runs", "process", "fairseq"},
    "models": CORE | {"networks", "continual", "fairseq"},
    "criterions": CORE | {"losses", "fairseq"},
    "tasks": CORE | {"networks", "losses", "criterions", "optim", "continual", "evaluation", "fairseq"},
    "configs": {"errors", "files", "json_files", "fairseq"},
    "fairseq_patches": GROUND | {"checkpoints", "configs", "process", "fairseq"},
    "api": CORE | {"networks", "inference", "evaluation", "fairseq"},
    "integrations": {"api", "arrays", "data", "evaluation", "errors"},
    "search": CORE | {"inference", "networks", "evaluation", "process", "api"},
    "cli": None,  # whatever it needs
    "__init__": None,
}
# Where our building blocks are made of fairseq's.
FAIRSEQ_MODULES = {"towers/xlmr.py", "translation.py"}


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    nested = parts[0] == "evaluation" and len(parts) > 2
    return "/".join(parts[:2]) if nested else parts[0]


def imported_rooms(path: Path):
    """First-level rooms of ours that a file imports, and ``fairseq``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "mlvl_fairseq" and len(parts) > 1:
                yield parts[1]
            elif parts[0] in ("fairseq", "fairseq_cli"):
                yield "fairseq"


FILES = {path: room_of(path) for path in sorted(PACKAGE.rglob("*.py"))}


def test_every_room_is_in_the_table():
    assert set(FILES.values()) == ARROWS.keys()


@pytest.mark.parametrize("room", sorted(room for room, allowed in ARROWS.items() if allowed is not None))
def test_imports_point_down(room):
    own = room.split("/")[0]
    wrong = {
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path, where in FILES.items()
        if where == room
        for name in imported_rooms(path)
        if name not in ARROWS[room] | {own}
    }
    assert not wrong


def test_the_table_has_no_circle_between_rooms():
    """But that of what is below tasks: each room can be read with what it imports, without what imports it."""
    below = {room: (allowed or set()) - {"fairseq"} for room, allowed in ARROWS.items()}
    placed = set()
    while len(placed) < len(below):
        ready = {room for room, allowed in below.items() if room not in placed and allowed - {room} <= placed}
        assert ready, f"a circle among {sorted(below.keys() - placed)}"
        placed |= ready


def test_building_blocks_made_of_fairseq_s_are_named():
    folder = PACKAGE / "modules"
    found = {str(path.relative_to(folder)) for path in folder.rglob("*.py") if "fairseq" in imported_rooms(path)}
    assert found == FAIRSEQ_MODULES


def test_adapters_of_models_are_thin():
    lines = {path.name: path.read_text(encoding="utf-8").count("\n") for path in (PACKAGE / "models").glob("*.py")}
    assert lines and max(lines.values()) < 110


def test_files_can_be_read_in_one_sitting():
    texts = {str(path.relative_to(PACKAGE)): path.read_text(encoding="utf-8") for path in FILES}
    assert texts
    assert not {path for path, text in texts.items() if text.count("\n") > MAX_LINES}
