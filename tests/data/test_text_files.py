"""Files of sentences: checked whole before anything is written, by mlvl-encode and the script that calls it."""

import io
import sys
from types import SimpleNamespace

import pytest

from mlvl_fairseq.cli import encode
from mlvl_fairseq.data.text import tokenizer_kinds
from mlvl_fairseq.data.text_files import encode_files, sentences
from mlvl_fairseq.errors import DataError, UserError

GERMAN = "ein grüner Würfel\nAm Strand\n"


def words(sentence):
    return sentence.split()


@pytest.fixture
def write(tmp_path):
    def write_file(name, content):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / name

    return write_file


FAULTS = {
    "latin-1": (
        GERMAN.encode("latin-1"),
        r"a.de:1: is not UTF-8; convert it first, e.g. with iconv, or mend this line: 'ein gr\\udcfcner W\\udcfcrfel'",
    ),
    "one byte": (GERMAN.encode() + b"\xff\n", r"a.de:3: is not UTF-8; .*'\\udcff'"),
    "surrogate": (GERMAN.encode() + b"\xed\xa0\xbd\n", "a.de:3: is not UTF-8"),
    "nul": (GERMAN + "x\0y\n", "a.de:3: holds a NUL byte"),
    "utf-16": (GERMAN.encode("utf-16"), "a.de: is UTF-16 text; convert it first: iconv"),
    "no mark": (GERMAN.encode("utf-16-le"), "a.de:1: holds NUL bytes: UTF-16 without its mark"),
    "gzip": (b"\x1f\x8b\x08" + b"x" * 30, "a.de:1: truncated gzip file"),
    "empty": (b"", "a.de: holds no sentence"),
    "blank": (b"\n \n", "a.de: holds no sentence"),
    "more": (GERMAN + "drei\n", "a.de: has 3 lines, but .*a.en has 2: line k belongs to line k"),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("order", ["fault first", "fault last"])
def test_nothing_is_left_of_files_with_a_fault(name, order, write, tmp_path):
    content, message = FAULTS[name]
    pairs = [write("a.de", content), write("a.en", "one\ntwo\n"), write("b.de", "eins\n"), write("b.en", "one\n")]
    files = pairs if order == "fault first" else pairs[2:] + pairs[:2]
    with pytest.raises(DataError, match=message) as error:
        encode_files(words, files, tmp_path / "out", parallel=True)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_only_newlines_end_a_sentence(write, tmp_path, caplog):
    path = write("a.de", "\ufeffeins\r\nzwei\u2028drei\x85\rvier\x0b\n\nfünf")
    assert list(sentences(path)) == ["eins", "zwei drei  vier ", "", "fünf"]
    encode_files(words, [path], tmp_path / "out")
    assert (tmp_path / "out" / "a.de").read_text() == "eins\nzwei drei vier\n\nfünf\n"
    assert "a.de: 1 of 4 lines are empty" in caplog.text
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == ["a.de"]


def test_files_that_do_not_fit_together(write, tmp_path):
    first = write("a.de", "eins\n")
    (tmp_path / "sub").mkdir()
    second = write("sub/a.de", "one\n")
    with pytest.raises(UserError, match="would both be"):
        encode_files(words, [first, second], tmp_path / "out")
    with pytest.raises(UserError, match="a.de has no other side"):
        encode_files(words, [first], tmp_path / "out", parallel=True)
    with pytest.raises(DataError, match="none: no such file"):
        encode_files(words, [first, tmp_path / "none"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def tokenizer(monkeypatch):
    """Every folder holds this one."""
    one = SimpleNamespace(tokens=words, prepared=lambda cleaning, ends_texts: one)
    for kind in tokenizer_kinds():
        monkeypatch.setattr(kind, "load", lambda folder: one)


def test_the_command(write, tmp_path, tokenizer, monkeypatch, capsys):
    files = [str(write("a.de", "ein  Hund\n")), str(write("a.en", "a dog"))]
    encode.main(["--sentencepiece", "x", "--parallel", "--output-dir", str(tmp_path / "out"), *files])
    assert (tmp_path / "out" / "a.de").read_text() == "ein Hund\n" and (
        tmp_path / "out" / "a.en"
    ).read_text() == "a dog\n"
    for wrong in (files, ["--output-dir", "x"], ["--parallel"]):
        with pytest.raises(UserError, match="go together"):
            encode.main(["--sentencepiece", "x", *wrong])
    given = io.TextIOWrapper(io.BytesIO(b"gut\nCaf\xe9\n"), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", given)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO()))
    with pytest.raises(DataError, match=r"standard input:2: is not UTF-8; .*'Caf\\udce9'"):
        encode.main(["--sentencepiece", "x"])
