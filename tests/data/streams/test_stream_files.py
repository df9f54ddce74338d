"""Records are found by an index, each once, whatever files they are in."""

import io
import json
import os
import tarfile

import numpy as np
import pytest
from stream_parts import write_lines

from mlvl_fairseq.data.data_files import stream_files
from mlvl_fairseq.data.streams import Records
from mlvl_fairseq.data.streams.records import held_out
from mlvl_fairseq.errors import DataError, UserError


def numbers(records):
    return [records[i].fields["n"] for i in range(len(records))]


@pytest.fixture
def dump(tmp_path):
    """A folder as Hadoop leaves it: three files of five lines, and what is no data."""
    for part in range(3):
        write_lines(tmp_path / "dump" / f"part-{part}", [{"n": 5 * part + i} for i in range(5)])
    (tmp_path / "dump" / "_SUCCESS").write_text("")
    (tmp_path / "dump" / ".part-0.crc").write_bytes(b"\0\0")
    return tmp_path / "dump"


def test_a_folder_gives_each_record_once_in_order(dump):
    records = Records(str(dump), "--image-text")
    assert numbers(records) == list(range(15))
    assert (records[7].path, records[7].line) == (str(dump / "part-1"), 3)


def test_patterns_files_and_folders_go_together_and_nothing_comes_twice(dump):
    given = f"{dump}/part-2, {dump}/part-[01],{dump}"
    assert numbers(Records(given, "--image-text")) == [*range(10, 15), *range(10)]


def test_the_second_time_only_the_index_is_read(dump, monkeypatch):
    Records(str(dump), "--image-text")
    assert sorted(path.name for path in dump.glob("*.npy")) == [f"part-{part}.index.npy" for part in range(3)]
    monkeypatch.setattr("mlvl_fairseq.data.streams.containers.Lines.scan", None)
    assert len(Records(str(dump), "--image-text")) == 15


def test_a_changed_file_is_indexed_again(dump):
    Records(str(dump), "--image-text")
    write_lines(dump / "part-0", [{"n": 40}, {"n": 41}])
    assert numbers(Records(str(dump), "--image-text")) == [40, 41, *range(5, 15)]


def test_a_damaged_index_is_one_line(dump):
    Records(str(dump), "--image-text")
    (dump / "part-0.index.npy").write_bytes(b"nothing")
    with pytest.raises(DataError, match="part-0.index.npy: is truncated .*; delete it, it is made again"):
        Records(str(dump), "--image-text")


def test_indices_can_lie_elsewhere(dump, tmp_path):
    other = write_lines(tmp_path / "other" / "part-0", [{"n": 99}])
    index = str(tmp_path / "index")
    assert numbers(Records(f"{dump},{other}", "--image-text", index)) == [*range(15), 99]
    assert len(os.listdir(index)) == 4 and not list(dump.glob("*.npy"))


def test_an_index_that_cannot_be_written_says_where_it_can(dump, monkeypatch):
    def refuse(path, array):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("mlvl_fairseq.data.streams.containers.write_array", refuse)
    with pytest.raises(UserError, match="Read-only file system.*: say with --index-folder where"):
        Records(str(dump), "--image-text")


def test_blank_lines_are_no_records_and_do_not_shift_line_numbers(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"n": 1}\n\n\r\n{"n": 2}\r\n\n{"n": 3}')
    records = Records(str(path), "--image-text")
    assert numbers(records) == [1, 2, 3]
    assert [records[i].line for i in range(3)] == [1, 4, 6]


def test_lines_longer_than_what_is_read_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("mlvl_fairseq.data.streams.containers._CHUNK", 7)
    rows = [{"n": i, "text": "x" * i} for i in range(30)]
    assert numbers(Records(str(write_lines(tmp_path / "a.jsonl", rows)), "--image-text")) == list(range(30))


@pytest.mark.parametrize(
    "content, message",
    [
        (b'[{"n": 1}]\n', "is a JSON list; one object a line is expected"),
        (b"\x1f\x8b\x08\x00", "is compressed"),
        (b"n\n1\n", "does not begin with a JSON object"),
    ],
)
def test_other_files_are_one_line(tmp_path, content, message):
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=f"a.jsonl: {message}"):
        Records(str(tmp_path), "--regions")


def test_a_broken_line_says_where_it_is(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"n": 1}\n{"n": \n"no object"\n')
    records = Records(str(tmp_path), "--regions")
    with pytest.raises(DataError, match="a.jsonl:2: not valid JSON: "):
        records[1]
    with pytest.raises(DataError, match="a.jsonl:3: is no JSON object"):
        records[2]


@pytest.mark.parametrize(
    "paths, message",
    [
        ("hdfs://cluster/data", r"--regions hdfs://cluster/data: .*hadoop fs -get hdfs://cluster/data FOLDER"),
        ("{}/none-*", "there is no file of records"),
        ("{}/empty", "there is no file of records"),
        ("{}/blank", "there is no record in it"),
        ("{}/absent.jsonl", "no such file"),
    ],
)
def test_nothing_to_read_is_one_line(tmp_path, paths, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank").write_text("")
    with pytest.raises(UserError, match=message):
        Records(paths.format(tmp_path), "--regions")


def test_what_is_no_data_is_left_out(dump):
    Records(str(dump), "--image-text")
    assert [os.path.basename(path) for path in stream_files(str(dump), "--x")] == ["part-0", "part-1", "part-2"]


def add(archive, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "000.tar"
    with tarfile.open(path, "w") as archive:
        add(archive, "a/000.jpg", b"picture 0")
        add(archive, "a/000.json", json.dumps({"n": 0}).encode())
        add(archive, "a/000.cls", b"7")
        add(archive, "a/001.txt", " ein Hund\n".encode())
        add(archive, "a/001.seg.png", b"picture 1")
        add(archive, "b/001.jpg", b"picture 2")
        add(archive, "b/002.json", json.dumps({"n": 3}).encode())
    return path


def test_members_of_an_archive_with_one_name_are_a_record(shard):
    records = Records(str(shard), "--image-text")
    assert [len(records), records[0].fields, records[0].picture] == [4, {"n": 0}, b"picture 0"]
    assert (records[1].fields, records[1].picture) == ({"caption": "ein Hund"}, b"picture 1")
    with pytest.raises(DataError, match="000.tar:3: has no text"):
        records[2]
    assert (records[3].fields, records[3].picture) == ({"n": 3}, None)


def test_archives_and_lines_are_one_stream(shard, dump):
    assert len(Records(f"{shard},{dump}", "--image-text")) == 19


@pytest.mark.parametrize("kept", [700, 2100, 2048])
def test_a_truncated_archive_is_one_line(shard, kept):
    shard.write_bytes(shard.read_bytes()[:kept])
    with pytest.raises(DataError, match="000.tar: (is truncated in|has no end|is a damaged tar archive)"):
        Records(str(shard), "--image-text")


def test_more_files_than_may_be_open(tmp_path, monkeypatch):
    monkeypatch.setattr("mlvl_fairseq.data.streams.records._OPEN_FILES", 2)
    for part in range(6):
        write_lines(tmp_path / f"{part}.jsonl", [{"n": part}])
    records = Records(str(tmp_path), "--image-text")
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    assert numbers(records) == list(range(6)) and numbers(records) == list(range(6))
    assert not before or len(os.listdir("/proc/self/fd")) <= before + 2


def test_what_is_held_out_is_the_rest():
    train, valid = held_out(50, 0.1, [1, 2])
    assert len(valid) == 5 and np.array_equal(np.sort(np.concatenate([train, valid])), np.arange(50))
    with pytest.raises(UserError, match="--held-out 0.001 of 50 records"):
        held_out(50, 0.001, [1, 2])
