"""Data sets in one file: CIFAR's records, IDX, MATLAB; against arrays that other programs wrote."""

import gzip
import io
import logging
import pickle
import struct
import zlib

import numpy as np
import pytest
import torch
from scipy.io import savemat

from mlvl_fairseq.data.classification import DATA_SETS, mat_files
from mlvl_fairseq.data.classification.idx_files import read_idx
from mlvl_fairseq.data.classification.mat_files import read_mat
from mlvl_fairseq.errors import DataError, UserError

RNG = np.random.default_rng(0)


def read(kind, root, split="test"):
    return DATA_SETS[kind]().read(str(root), split)


def as_array(picture):
    """A transform that keeps the pixels of a picture."""
    return torch.from_numpy(np.asarray(picture.convert("RGB")).copy()).permute(2, 0, 1)


def pixels(images, names=None):
    return np.stack([one.pixels.permute(1, 2, 0).numpy() for one in images.dataset(as_array, names)])


@pytest.mark.parametrize("kind, labels", [("cifar10", 1), ("cifar100", 2)])
def test_cifar(tmp_path, kind, labels):
    folder = tmp_path / DATA_SETS[kind].folder
    folder.mkdir()
    classes = DATA_SETS[kind].classes
    names = [f"class_{i}" for i in range(classes)]
    (folder / DATA_SETS[kind].names_file).write_text("\n".join(names) + "\n\n")
    pictures, right = RNG.integers(0, 256, (5, 32, 32, 3), np.uint8), RNG.integers(0, classes, 5)
    for number, file in enumerate(" ".join(DATA_SETS[kind].files.values()).split()):
        records = [
            bytes([number] * (labels - 1) + [label]) + picture.transpose(2, 0, 1).tobytes()
            for label, picture in zip(right, pictures)
        ]
        (folder / file).write_bytes(b"".join(records))
    for root in (tmp_path, folder):
        images = read(kind, root)
        np.testing.assert_array_equal(pixels(images), pictures)
        np.testing.assert_array_equal(images.labels, right)
        assert images.names[1] == "class 1" and images.keys[1] == "class_1" and images.images[3] == "000003"
    np.testing.assert_array_equal(pixels(images, ["000004", "000001"]), pictures[[4, 1]])
    assert len(read(kind, tmp_path, "train")) == (25 if kind == "cifar10" else 5)
    with pytest.raises(UserError, match=f"{kind} has the splits test and train, not 'val'; say --split"):
        read(kind, tmp_path, "val")
    file = folder / DATA_SETS[kind].files["test"]
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match="no multiple of 307[34]: it is truncated or another file; unpack cifar"):
        read(kind, tmp_path)


def test_pickles_of_cifar_are_not_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    (folder / "test").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match="what is there is the Python version, pickles that are not read; unpack cifar"):
        read("cifar100", tmp_path)
    assert not (tmp_path / "ran").exists()


def idx(array):
    return struct.pack(">I", 0x0800 + array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_fashion_mnist(tmp_path, packed):
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    grey, right = RNG.integers(0, 256, (6, 28, 28), np.uint8), np.array([9, 0, 3, 3, 1, 2], np.uint8)
    for name, array in (("images-idx3", grey), ("labels-idx1", right)):
        content = idx(array)
        file = folder / f"t10k-{name}-ubyte{'.gz' * packed}"
        file.write_bytes(gzip.compress(content) if packed else content)
    images = read("fashion_mnist", tmp_path)
    np.testing.assert_array_equal(pixels(images), np.repeat(grey[..., None], 3, axis=3))
    assert images.labels.tolist() == right.tolist() and images.names[9] == "Ankle boot"
    assert read("mnist", folder).names[9] == "9"
    with pytest.raises(DataError, match="train-images-idx3-ubyte: no such file; put train-images-idx3-ubyte.gz and"):
        read("fashion_mnist", tmp_path, "train")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is no IDX file of bytes in 1 dimensions"),
        (idx(np.zeros((2, 2), np.uint8)), "is no IDX file of bytes in 1 dimensions"),
        (idx(np.zeros(9, np.uint8))[:-1], "is truncated \\(9 bytes are expected\\)"),
        (idx(np.zeros(9, np.uint8)) + b"x", "holds more than its array"),
        (struct.pack(">II", 0x0801, 2**31), "says that it holds 2,147,483,648 bytes"),
        (gzip.compress(idx(np.zeros(9, np.uint8)))[:-9], "is truncated or damaged"),
        (gzip.compress(struct.pack(">II", 0x0801, 1 << 24) + bytes(1 << 24)), "inflates"),
    ],
)
def test_damaged_idx_files(tmp_path, content, message):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match=message) as raised:
        read_idx(tmp_path / "x", 1, "do something")
    assert str(raised.value).startswith(str(tmp_path / "x"))


@pytest.mark.parametrize("packed", [False, True])
def test_svhn(tmp_path, packed):
    pictures, right = RNG.integers(0, 256, (4, 32, 32, 3), np.uint8), np.array([10, 1, 9, 10])
    content = {"X": pictures.transpose(1, 2, 3, 0), "y": right[:, None].astype(float)}
    savemat(tmp_path / "test_32x32.mat", content, do_compression=packed)
    images = read("svhn", tmp_path)
    np.testing.assert_array_equal(pixels(images), pictures)
    assert images.labels.tolist() == [0, 1, 9, 0] and images.names[:2] == ["zero", "one"]
    with pytest.raises(DataError, match="extra_32x32.mat: no such file; put extra_32x32.mat of ufldl"):
        read("svhn", tmp_path, "extra")
    savemat(tmp_path / "test_32x32.mat", {**content, "y": right[:, None] + 1})
    with pytest.raises(DataError, match="labels are from 2 to 11, not 1 to 10"):
        read("svhn", tmp_path)
    savemat(tmp_path / "test_32x32.mat", {**content, "y": right[:3, None]})
    with pytest.raises(DataError, match="y has 3 labels: not \\[32, 32, 3, pictures\\] with a label each"):
        read("svhn", tmp_path)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "i8", "f4", "f8"])
def test_matlab_arrays_of_all_numbers(tmp_path, dtype):
    array = RNG.integers(0, 100, (2, 3, 5)).astype(dtype)
    savemat(
        tmp_path / "x.mat", {"other": "text", "a": array, "long_name_of_it": np.array([[7.0]])}, do_compression=True
    )
    found = read_mat(tmp_path / "x.mat", ("a", "long_name_of_it"), "")
    np.testing.assert_array_equal(found["a"], array)
    assert found["a"].dtype == dtype and found["long_name_of_it"].tolist() == [[7]]


def mat(**arrays):
    file = io.BytesIO()
    savemat(file, arrays, do_compression=True)
    return file.getvalue()


def bomb(claims):
    """An array that says it has so many bytes, deflated."""
    inner = struct.pack("<II", 14, claims) + bytes(1 << 20)
    packed = zlib.compress(inner)
    return mat(z=1)[:128] + struct.pack("<II", 15, len(packed)) + packed


@pytest.mark.parametrize(
    "content, message",
    [
        (b"x" * 200, "is no MATLAB 5 file"),
        (mat(b=1), "holds no array a"),
        (mat(a=np.arange(9))[:-5], "is truncated"),
        (mat(a=np.array([[object()]], object).astype(str).astype(object)), "a is no array of numbers"),
        (mat(a="text"), "a is no array of numbers"),
        (bomb(1 << 31), "an array ends early"),
    ],
)
def test_damaged_matlab_files(tmp_path, content, message):
    (tmp_path / "x.mat").write_bytes(content)
    with pytest.raises(DataError, match=message) as raised:
        read_mat(tmp_path / "x.mat", ("a",), "do something")
    assert str(raised.value).endswith("do something") and "\n" not in str(raised.value)


def test_a_matlab_file_is_not_inflated_beyond_a_limit(tmp_path, monkeypatch):
    (tmp_path / "x.mat").write_bytes(mat(a=np.zeros(1 << 16)))
    assert read_mat(tmp_path / "x.mat", ("a",), "")["a"].size == 1 << 16
    monkeypatch.setattr(mat_files, "LARGEST", 1 << 16)
    with pytest.raises(DataError, match="an array of 524,[0-9]+ bytes"):
        read_mat(tmp_path / "x.mat", ("a",), "")


def test_random_damage_is_refused_or_read(tmp_path):
    content = mat(a=np.arange(40, dtype=np.uint8), b=np.arange(3.0))
    for _ in range(300):
        damaged = bytearray(content)
        for place in RNG.integers(124, len(content), 3):
            damaged[place] = RNG.integers(256)
        (tmp_path / "x.mat").write_bytes(damaged)
        try:
            read_mat(tmp_path / "x.mat", ("a", "b"), "")
        except DataError:
            logging.debug("refused")
