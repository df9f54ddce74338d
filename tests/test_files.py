"""Files appear whole or not at all."""

import json
import math
import os

import pytest

from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import atomic_path, write_json, write_text


def test_content_appears_with_the_rename_only(tmp_path):
    path = tmp_path / "file"
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"new")
        assert not path.exists() and temporary.parent == tmp_path
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_interruption_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(error), atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_a_full_disk_while_flushing_leaves_the_old_file(tmp_path, monkeypatch):
    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    write_text(path, "old")
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(DataError, match="file: cannot be saved: No space left on device. .*run the same command again"):
        write_text(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_an_error_that_stands_for_a_full_disk_is_one(tmp_path):
    """torch.save reports file positions."""
    with pytest.raises(DataError, match="cannot be saved: File too large"), atomic_path(tmp_path / "file"):
        try:
            raise OSError(27, "File too large")
        except OSError:
            raise RuntimeError("unexpected pos 704 vs 598")


def test_text_is_utf8_and_json_readable(tmp_path):
    write_text(tmp_path / "text", "é漢\n")
    assert (tmp_path / "text").read_bytes() == "é漢\n".encode()
    value = {"de": ["ß", 1.5, None], "n": {"a": True}}
    write_json(tmp_path / "json", value)
    text = (tmp_path / "json").read_text(encoding="utf-8")
    assert json.loads(text) == value and "ß" in text and text.endswith("}\n")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_json_has_no_nan(tmp_path, value):
    path = tmp_path / "json"
    write_json(path, [1])
    with pytest.raises(ValueError):
        write_json(path, [value])
    assert json.loads(path.read_text()) == [1]
