"""Files of torch.save: any flipped bit is found, and no small file becomes gigabytes."""

import collections
import io
import pickle
import struct
import zipfile

import pytest
import torch

from mlvl_fairseq.checkpoints import safe_loading
from mlvl_fairseq.checkpoints.archive import save_checkpoint
from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file
from mlvl_fairseq.errors import DataError

STATE = {
    "model": {"a": torch.arange(6.0).view(2, 3), "b": torch.zeros(0), "tied": torch.ones(3)},
    "cfg": {"model": {"_name": "x", "sizes": [1, 2]}},
    "extra_state": {"best": 1.5, "train_iterator": {"epoch": 1}},
    "args": None,
    "best_loss": 0.5,
}


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_what_is_written_is_read_by_us_by_torch_and_by_zip(tmp_path):
    path = tmp_path / "c.pt"
    save_checkpoint(STATE, path)
    for read in (load_checkpoint_file(path), torch.load(path, weights_only=True)):
        assert torch.equal(read["model"]["a"], STATE["model"]["a"]) and read["cfg"] == STATE["cfg"]
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


def test_each_byte_of_our_checkpoints_counts(tmp_path):
    """Tensors, pickle, padding, directory, seal: one bit of each byte."""
    path = tmp_path / "c.pt"
    save_checkpoint(STATE, path)
    good = path.read_bytes()
    for byte in range(len(good)):
        path.write_bytes(flipped(good, 8 * byte + byte % 8))
        with pytest.raises(DataError, match="c.pt: .*(damaged|truncated)") as error:
            load_checkpoint_file(path)
        assert "\n" not in str(error.value)


def test_files_without_seal_have_the_checksums_of_their_entries(tmp_path):
    path = tmp_path / "c.pt"
    torch.save(STATE, path)
    good = path.read_bytes()
    assert load_checkpoint_file(path)["best_loss"] == 0.5
    with zipfile.ZipFile(path) as archive:
        contents = {entry.filename: archive.read(entry) for entry in archive.infolist() if entry.file_size > 20}
    assert len(contents) == 3  # pickle, a tensor, and what torch calls serialization_id
    for content in contents.values():
        path.write_bytes(flipped(good, 8 * (good.index(content) + 7)))
        with pytest.raises(DataError, match="c.pt: is truncated or damaged .Bad CRC-32"):
            load_checkpoint_file(path)


class Pickled(pickle.Pickler):
    """Writes `Storage` as a reference and `Call` as a call."""

    def persistent_id(self, value):
        return value.reference if isinstance(value, Storage) else None


class Storage:
    def __init__(self, numel, kind=torch.FloatStorage, device="cpu"):
        self.reference = ("storage", kind, "0", device, numel)


class Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def dense(numel, shape, stride, offset=0, **storage):
    arguments = Storage(numel, **storage), offset, shape, stride, False, collections.OrderedDict()
    return Call(torch._utils._rebuild_tensor_v2, *arguments)


def pickled(content) -> bytes:
    file = io.BytesIO()
    Pickled(file, 2).dump(content)
    return file.getvalue()


def write_archive(path, pickle_bytes, storage=bytes(16), method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("c/data.pkl", pickle_bytes)
        archive.writestr("c/byteorder", "little")
        archive.writestr("c/data/0", storage)
        archive.writestr("c/version", "3\n")


def test_control_an_archive_made_by_hand_is_read(tmp_path):
    write_archive(tmp_path / "c.pt", pickled({"a": dense(4, (2, 2), (2, 1))}))
    assert torch.equal(load_checkpoint_file(tmp_path / "c.pt")["a"], torch.zeros(2, 2))


def test_compressed_entries_are_refused_unread(tmp_path):
    path = tmp_path / "c.pt"
    write_archive(path, pickled({"a": dense(10**8, (10**8,), (1,))}), bytes(4 * 10**8), zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10**6
    with pytest.raises(DataError, match="c.pt: holds a compressed entry"):
        load_checkpoint_file(path)


def test_entries_that_share_bytes_are_refused(tmp_path):
    path, storage = tmp_path / "c.pt", bytes(4096)
    write_archive(path, pickled({}), storage)
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02")
    fields = struct.Struct("<II")  # sizes in the first entry of the directory: as large as all entries together
    fields.pack_into(content, place + 20, len(content) - 100, len(content) - 100)
    path.write_bytes(content)
    with pytest.raises(DataError, match="c.pt: (holds entries larger than the file|is truncated or damaged)"):
        load_checkpoint_file(path)


@pytest.mark.filterwarnings("ignore")  # zipfile's own, about the name
def test_entries_of_one_name_are_refused(tmp_path):
    write_archive(tmp_path / "c.pt", pickled({"a": dense(4, (4,), (1,))}))
    with zipfile.ZipFile(tmp_path / "c.pt", "a") as archive:
        archive.writestr("c/data/0", bytes(range(16)))
    with pytest.raises(DataError, match="c.pt: holds two entries of one name"):
        load_checkpoint_file(tmp_path / "c.pt")


@pytest.mark.parametrize(
    "value, message",
    [
        (dense(4, (10**6, 10**6), (0, 0)), "they repeat their numbers"),
        (dense(4, (10**9,), (1,)), "truncated, damaged"),
        (dense(4, (4,), (1,), offset=10**12), "truncated, damaged"),
        (dense(4, (4,), (1,), offset=-1), "truncated, damaged"),
        (dense(4, (-4,), (1,)), "truncated, damaged"),
        (dense(10**12, (10**12,), (1,)), "truncated, damaged"),
        (Call(bytearray, 10**12), "object of type .*bytearray"),
        (Call(torch._utils._rebuild_meta_tensor_no_storage, torch.float32, (10**9,), (1,), False), "_meta_tensor"),
        (Call(torch._utils._rebuild_sparse_tensor, torch.sparse_coo, ()), "_rebuild_sparse_tensor"),
        (Call(torch.Tensor, 10**12), "torch.Tensor"),
        (Call(torch.FloatTensor, 10**12), "torch.FloatTensor"),
        ([dense(4, (4,), (1,))] * 3 + [dense(4, (4 * 10**7,), (0,))], "they repeat their numbers"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_a_small_file_stays_small(tmp_path, value, message):
    write_archive(tmp_path / "c.pt", pickled({"a": [{"b": value}]}))
    with pytest.raises(DataError, match=f"c.pt: .*{message}"):
        load_checkpoint_file(tmp_path / "c.pt")


def test_encodings_that_double_are_refused(tmp_path):
    """bytes are pickled as a call of `codecs.encode`; hexadecimal digits are twice as many bytes."""
    once = b"ccodecs\nencode\nq\x01".replace(b"codecs", b"_codecs")
    for encoding, expected in (("latin1", "ü"), ("hex", None)):
        name = b"X" + struct.pack("<I", len(encoding)) + encoding.encode()
        call = once + b"X\x02\0\0\0\xc3\xbc" + name + b"\x86R"
        write_archive(tmp_path / "c.pt", b"\x80\x02}X\x01\0\0\0a" + call + b"s.")
        if expected:
            assert load_checkpoint_file(tmp_path / "c.pt")["a"] == expected.encode("latin1")
        else:
            with pytest.raises(DataError, match="_codecs.encode"):
                load_checkpoint_file(tmp_path / "c.pt")


def test_a_huge_memo_costs_nothing(tmp_path):
    write_archive(tmp_path / "c.pt", b"\x80\x02}r\xff\xff\xff\xffX\x01\0\0\0aK\x01s.")
    assert load_checkpoint_file(tmp_path / "c.pt") == {"a": 1}


def test_the_lists_are_narrow_while_we_load_and_torchs_own_afterwards():
    names = {name for name in safe_loading.allowed_globals_of_torch() if not name.startswith("torch.")}
    assert names == {"collections.OrderedDict", "builtins.set"}
    rebuilds = {name for name in safe_loading.allowed_globals_of_torch() if "rebuild" in name}
    assert rebuilds == {f"torch._utils._rebuild_{kind}" for kind in ("parameter", "tensor", "tensor_v2", "tensor_v3")}
    assert not any(name.endswith("Tensor") for name in safe_loading.allowed_globals_of_torch())
    assert "builtins.bytearray" in torch._weights_only_unpickler._get_allowed_globals()
