import errno
import os
import re
import resource

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager

from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file
from mlvl_fairseq.errors import DataError


def full_disk(written):
    """A stand-in for torch.save that fails as torch.save does on a full disk: behind another error."""

    def save(obj, file):
        file.write(written)
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("[enforce fail at inline_container.cc] unexpected pos 704 vs 598")

    return save


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "checkpoint_last.pt"
    checkpoint_utils.torch_persistent_save({"update": 1}, str(path))
    return path


def test_full_disk_keeps_the_earlier_checkpoint(saved, monkeypatch):
    before = saved.read_bytes()
    monkeypatch.setattr(torch, "save", full_disk(b"half a checkpoint"))
    with pytest.raises(DataError, match="checkpoint_last.pt: cannot be saved: No space left on device") as caught:
        checkpoint_utils.torch_persistent_save({"update": 2}, str(saved))
    assert "\n" not in str(caught.value)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_error_that_is_not_the_disk_stays_as_it_is(saved):
    with pytest.raises((AttributeError, TypeError, RuntimeError)) as caught:
        checkpoint_utils.torch_persistent_save({"update": lambda: 0}, str(saved))
    assert not isinstance(caught.value, DataError)
    assert load_checkpoint_file(saved) == {"update": 1}


def test_copy_keeps_the_earlier_checkpoint(saved, tmp_path, monkeypatch):
    best = tmp_path / "checkpoint_best.pt"
    best.write_bytes(b"earlier")
    assert PathManager.copy(str(saved), str(best), overwrite=True)
    assert best.read_bytes() == saved.read_bytes()

    def fail(source, target, length):
        target.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", fail)
    with pytest.raises(DataError, match="checkpoint_best.pt: cannot be saved"):
        PathManager.copy(str(saved), str(best), overwrite=True)
    assert best.read_bytes() == saved.read_bytes()


def test_what_a_killed_run_left_is_overwritten(saved):
    temporary = saved.with_name(saved.name + ".tmp")
    temporary.write_bytes(b"x" * 100_000)
    checkpoint_utils.torch_persistent_save({"update": 2}, str(saved))
    assert load_checkpoint_file(saved) == {"update": 2} and not temporary.exists()


def test_full_disk_ends_the_command(trained, run_here, train_options):
    """fairseq-train that resumes, and may not write files as large as its checkpoint."""
    before = {path: path.read_bytes() for path in trained.iterdir()}
    limit = len(before[trained / "checkpoint_last.pt"]) - 2000
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, allowed[1]))
    try:
        with pytest.raises(DataError, match="checkpoint2.pt: cannot be saved: File too large"):
            run_here("fairseq-train", *train_options, "--max-epoch", 2, "--save-dir", trained)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
    assert {path: path.read_bytes() for path in trained.iterdir()} == before


@pytest.mark.parametrize("number, message", [
    (errno.EROFS, "Read-only file system. .*make it writable, or choose another place, and run the same command again"),
    (errno.ENOSPC, "No space left on device. .*make room"),
])  # fmt: skip
def test_a_save_dir_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, number, message):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "makedirs", refuse)
    with pytest.raises(DataError, match=f"run: cannot be saved: {message}"):
        checkpoint_utils.verify_checkpoint_directory(str(tmp_path / "run"))


def test_checkpoints_are_sealed(saved):
    """The seal is the archive's comment; copies have it, too."""
    copy = saved.with_name("checkpoint_best.pt")
    PathManager.copy(str(saved), str(copy), overwrite=True)
    for path in (saved, copy):
        assert re.search(rb"mlvl crc32 [0-9a-f]{8}$", path.read_bytes())
        assert load_checkpoint_file(path) == {"update": 1}
