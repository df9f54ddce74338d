"""docs/python.md: its examples run, one after the other, and give what they say."""

import re
import shutil
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"


def test_examples(small_clip, photos, tmp_path, monkeypatch, capsys):
    shutil.copy(small_clip, tmp_path / "ViT-B-32.pt")
    shutil.copytree(photos, tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    said = []

    def check(value, expected):
        assert repr(value) == expected
        said.append(expected)

    text, names = PAGE.read_text(encoding="utf-8"), {"check": check}
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for block in blocks:
        checked = re.sub(
            r"^( *)(\S.*?)  # -> (.+)$", lambda m: f"{m[1]}check(({m[2]}), {m[3]!r})", block, flags=re.MULTILINE
        )
        exec(compile(checked, f"example {blocks.index(block) + 1}", "exec"), names)
    assert len(blocks) >= 7 and len(said) == text.count("# ->") >= 10
    assert capsys.readouterr().out.startswith("photos/none.jpg: no such image; check the image root")
