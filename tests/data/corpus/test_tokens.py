"""Binarized captions are opened only if they are whole."""

import struct

import pytest
import torch
from fairseq.data import indexed_dataset

from mlvl_fairseq.data.corpus.binarize import open_tokens
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
    ],
)
def test_anything_else_is_refused(prefix, suffix, change):
    path = prefix.with_suffix(suffix)
    change(path, path.stat().st_size)
    with pytest.raises(DataError, match="is truncated, or .* run mlvl-prepare again"):
        open_tokens(prefix)


@pytest.mark.parametrize("suffix", [".bin", ".idx"])
def test_absent(prefix, suffix):
    prefix.with_suffix(suffix).unlink()
    with pytest.raises(DataError, match=f"train{suffix}: no binarized captions; run mlvl-prepare"):
        open_tokens(prefix)
