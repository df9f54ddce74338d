"""Binarized captions are opened only if they are whole."""

import struct

import pytest
import torch
from fairseq.data import indexed_dataset

from mlvl_fairseq.data.token_files import open_tokens
from mlvl_fairseq.errors import DataError

CAPTIONS = [[5, 6, 7], [8], [50_000, 9]]


@pytest.fixture
def prefix(tmp_path):
    builder = indexed_dataset.make_builder(str(tmp_path / "train.bin"), impl="mmap", vocab_size=50_001)
    for caption in CAPTIONS:
        builder.add_item(torch.tensor(caption))
    builder.finalize(str(tmp_path / "train.idx"))
    return tmp_path / "train"


def test_what_fairseq_wrote(prefix):
    assert [caption.tolist() for caption in open_tokens(prefix)] == CAPTIONS


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def patch(offset, content):
    def change(path, _):
        old = path.read_bytes()
        path.write_bytes(old[:offset] + content + old[offset + len(content) :])

    return change


@pytest.mark.parametrize(
    "suffix, change",
    [
        (".bin", lambda path, size: cut(path, size - 1)),
        (".bin", lambda path, size: path.write_bytes(path.read_bytes() + b"more")),
        (".idx", lambda path, size: cut(path, size - 1)),
        (".idx", lambda path, size: cut(path, 20)),
        (".idx", lambda path, size: cut(path, 0)),
        (".idx", patch(0, b"MMXXXXXXX")),
        (".idx", patch(9, struct.pack("<Q", 2))),
        (".idx", patch(17, b"\x06")),  # float64
        (".idx", patch(17, b"\xff")),
        (".idx", patch(18, struct.pack("<Q", 2))),
        (".idx", patch(26, struct.pack("<i", -3))),
        (".idx", patch(26, struct.pack("<3i", 0, 3, 3))),
        (".idx", patch(26, struct.pack("<3i", 2, 2, 2))),
        (".idx", patch(26, struct.pack("<3i3q", 3, 0, 3, 0, 6, 6))),  # an empty caption, in its place
        (".idx", patch(46, struct.pack("<q", 9))),  # the place of the second caption
        (".idx", patch(46, struct.pack("<q", 1 << 40))),
    ],
)
def test_anything_else_is_refused(prefix, suffix, change):
    path = prefix.with_suffix(suffix)
    change(path, path.stat().st_size)
    with pytest.raises(DataError, match=f"train{suffix}: is (truncated, or|damaged).* run mlvl-prepare again"):
        open_tokens(prefix)


@pytest.mark.parametrize("suffix", [".bin", ".idx"])
def test_absent(prefix, suffix):
    prefix.with_suffix(suffix).unlink()
    with pytest.raises(DataError, match=f"train{suffix}: no such file; .* run mlvl-prepare again"):
        open_tokens(prefix)


@pytest.mark.parametrize("suffix", [".bin", ".idx"])
@pytest.mark.parametrize("device", ["/dev/zero", "/dev/full"])
def test_devices_are_not_read(prefix, suffix, device):
    path = prefix.with_suffix(suffix)
    path.unlink()
    path.symlink_to(device)
    with pytest.raises(DataError, match=f"train{suffix}: is a device, not a regular file"):
        open_tokens(prefix)


def test_ids_beyond_the_vocabulary(prefix):
    assert len(open_tokens(prefix, 50_001)) == len(CAPTIONS)
    with pytest.raises(DataError, match=r"train\.bin: holds token 50000, the vocabulary ends at 49999"):
        open_tokens(prefix, 50_000)
