"""Files that are read are regular and inflate to a bounded size; files that are written appear whole or not at all."""

import contextlib
import errno
import fcntl
import gzip
import json
import math
import multiprocessing
import os
import random
import socket

import pytest

from mlvl_fairseq import files
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import (
    atomic_path,
    inflated,
    open_file,
    read_text,
    remove_left_over,
    require_file,
    saving,
    write_json,
    write_text,
)


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


def write_half(path, written, ends):
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        written.set()
        ends.wait(60)


@pytest.fixture
def half_written(tmp_path):
    """``half_written(name)``: a process that has written half of a file, and the event that lets it finish."""
    context, started = multiprocessing.get_context("fork"), []

    def start(name):
        written, ends = context.Event(), context.Event()
        started.append(context.Process(target=write_half, args=(tmp_path / name, written, ends)))
        started[-1].start()
        assert written.wait(10)
        return started[-1], ends

    yield start
    for process in started:
        process.kill()
        process.join()


def test_what_killed_processes_left_is_removed_by_the_next_one(half_written, tmp_path):
    for _ in range(2):
        killed, _ = half_written("[a] *.pt")
        killed.kill()
        killed.join()
    for name in (".b.pt.7.tmp", ".a.7.tmp", ".[a] *.pt.x.tmp"):  # of other files
        (tmp_path / name).touch()
    write_text(tmp_path / "[a] *.pt", "new")
    assert sorted(os.listdir(tmp_path)) == [".[a] *.pt.x.tmp", ".a.7.tmp", ".b.pt.7.tmp", "[a] *.pt"]
    remove_left_over(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".[a] *.pt.x.tmp", "[a] *.pt"]


def test_what_a_process_is_writing_is_left_to_it(half_written, tmp_path):
    writer, ends = half_written("file")
    write_text(tmp_path / "file", "other")
    assert len(os.listdir(tmp_path)) == 2
    ends.set()
    writer.join()
    assert (tmp_path / "file").read_bytes() == b"half" and os.listdir(tmp_path) == ["file"]


def test_a_temporary_file_that_is_removed_before_it_is_locked_is_made_anew(tmp_path, monkeypatch):
    calls, flock = [], fcntl.flock

    def remove_first(file, how):
        flock(file, how)
        calls.append(how)
        if len(calls) == 1:
            os.remove(file.name)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with atomic_path(tmp_path / "file") as temporary:
        assert temporary.exists() and len(calls) == 2


def test_files_are_written_where_there_are_no_locks(half_written, tmp_path, monkeypatch):
    killed, _ = half_written("file")
    killed.kill()
    killed.join()

    def unsupported(file, how):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new" and len(os.listdir(tmp_path)) == 2  # who knows whether it is alive


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


@pytest.mark.parametrize(
    "number, message",
    [
        (errno.ENOSPC, "make room and run the same command again"),
        (errno.EROFS, "make it writable, or choose another place, and run the same command again"),
        (errno.EACCES, "make it writable, or choose another place, and run the same command again"),
        (errno.EIO, "mend that and run the same command again"),
    ],
)
def test_the_advice_fits_what_the_system_refused(tmp_path, number, message):
    with pytest.raises(DataError, match=message), saving(tmp_path / "file"):
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("open_it", [open_file, require_file])
def test_what_is_no_regular_file_is_never_opened(tmp_path, open_it):
    """Opening a pipe that nobody writes to would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket"))
    server.close()
    for name, kind in {"pipe": "a pipe", "folder": "a folder", "socket": "a socket"}.items():
        with pytest.raises(DataError, match=f"{name}: is {kind}, not a regular file; give a file"):
            open_it(tmp_path / name)
    with pytest.raises(DataError, match="/dev/zero: is a device, not a regular file"):
        open_it("/dev/zero")
    with pytest.raises(DataError, match="none: no such file; fetch it first$"):
        open_it(tmp_path / "none", "fetch it first")
    with pytest.raises(DataError, match="none: no such file$"):
        open_it(tmp_path / "none")
    with pytest.raises(DataError, match="cannot be read: embedded null"):
        open_it("a\0b")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(DataError, match="loop: cannot be read: Too many levels of symbolic links"):
        open_it(tmp_path / "loop")


def test_a_file_behind_a_link_is_opened(tmp_path):
    (tmp_path / "file").write_bytes(b"12")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with open_file(tmp_path / "link") as file:
        assert file.read() == b"12"


def test_gzip_is_inflated_up_to_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "INFLATED_AT_LEAST", 3 << 20)
    path = tmp_path / "file.gz"
    for size in (3 << 20, (3 << 20) + 1):
        path.write_bytes(gzip.compress(bytes(size)))
        with open_file(path) as file:
            stream, read = inflated(file, path), 0
            with contextlib.ExitStack() as expected:
                if size > 3 << 20:
                    expected.enter_context(pytest.raises(DataError, match="file.gz: inflates .* bytes to 3,145,"))
                while chunk := stream.read(1000):
                    read += len(chunk)
            assert read == 3 << 20 if size == 3 << 20 else read <= 3 << 20


def test_a_bomb_in_a_large_file_is_found_where_it_is(tmp_path):
    """What comes behind it, and would excuse it, is not waited for."""
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(bytes(32 << 20) + random.Random(1).randbytes(1 << 20)))
    with open_file(path) as file, pytest.raises(DataError, match="inflates .* bytes to [4-9],[0-9,]{7}, which text"):
        inflated(file, path).read()


def test_what_text_inflates_to_is_bounded_by_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "INFLATED_AT_LEAST", 0)
    path, text = tmp_path / "file.gz", b"A dog runs. " * 50
    path.write_bytes(gzip.compress(text))
    with open_file(path) as file:
        assert inflated(file, path).read() == text
    path.write_bytes(gzip.compress(bytes(10_000_000)))
    with open_file(path) as file, pytest.raises(DataError, match="inflate it first"):
        inflated(file, path).read()


def test_text_is_read_whole_or_refused_with_its_line(tmp_path):
    path = tmp_path / "text"
    path.write_bytes("é\r\n漢\n".encode())
    assert read_text(path) == "é\n漢\n"
    path.write_bytes(b"a\nb\n\xff\n")
    with pytest.raises(DataError, match="text:3: not UTF-8 .invalid start byte at byte 4.; convert it first"):
        read_text(path)
    with pytest.raises(DataError, match="text: has more than 5 bytes"):
        read_text(path, limit=5)
    with pytest.raises(DataError, match="none: no such file; make one"):
        read_text(tmp_path / "none", "make one")
