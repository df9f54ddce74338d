"""Texts in zip archives, as IGLUE has its training files."""

import json
import zipfile

import pytest

from mlvl_fairseq import files
from mlvl_fairseq.data.captions import read_captions
from mlvl_fairseq.data.examples import read_examples
from mlvl_fairseq.errors import DataError

LINE = {"gold_label": "neutral", "sentence2": "It runs.", "Flikr30kID": "1"}


def archive(path, contents):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in contents.items():
            packed.writestr(name, content)
    return path


def test_the_one_file_of_an_archive_is_read(tmp_path):
    examples = {"en/": "", "en/train.jsonl": f"{json.dumps(LINE)}\n" * 3, "__MACOSX/en/._train.jsonl": "\0\1"}
    assert len(read_examples(archive(tmp_path / "train.jsonl.zip", examples))) == 3
    captions = json.dumps([{"image": "a.png", "caption": ["PKW", "zwei"]}])
    assert read_captions(archive(tmp_path / "captions", {"c.json": captions})).captions == ["PKW", "zwei"]


def test_a_text_may_begin_as_an_archive(tmp_path):
    path = tmp_path / "captions.txt"
    path.write_text("PK.png\tPKW\n")
    assert read_captions(path, format="triplet").images == ["PK.png"]


def test_archives_that_are_refused(tmp_path, monkeypatch):
    def refused(path):
        with pytest.raises(DataError) as error:
            read_examples(path)
        assert "\n" not in str(error.value)
        return str(error.value)

    path = archive(tmp_path / "two.zip", {"a": "1", "b": "2"})
    assert refused(path) == f"{path}: is a zip archive of 2 files: unpack it and give one of them (unzip)"
    path = archive(tmp_path / "one.zip", {"a": f"{json.dumps(LINE)}\n" * 3})
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    assert "damaged zip archive" in refused(path)
    path.write_bytes(whole[:60] + b"\xff" + whole[61:])
    assert "damaged zip archive" in refused(path)
    monkeypatch.setattr(files, "INFLATED_AT_LEAST", 1000)
    assert "to 1,000,000, which text does not" in refused(archive(tmp_path / "bomb.zip", {"a": " " * 1_000_000}))
