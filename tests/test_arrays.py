"""Arrays are what their headers say, or refused in one line."""

import pickle
import zipfile

import numpy as np
import pytest

from mlvl_fairseq import arrays
from mlvl_fairseq.arrays import map_array, read_array, read_arrays, write_array, write_arrays
from mlvl_fairseq.errors import DataError

NUMBERS = np.arange(12, dtype=np.float32).reshape(4, 3)


def npy(array, **header) -> bytes:
    """The bytes of an ``.npy`` file, with other things in its header."""
    true = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
    literal = repr({**true, **header}).ljust(117) + "\n"
    return b"\x93NUMPY\x01\0" + len(literal).to_bytes(2, "little") + literal.encode() + array.tobytes()


def test_the_files_of_these_tests_are_numpy_s(tmp_path):
    np.save(tmp_path / "a.npy", NUMBERS)
    assert (tmp_path / "a.npy").read_bytes() == npy(NUMBERS).replace(b"3)}  ", b"3), }")


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float16", "float64"])
@pytest.mark.parametrize("order", "CF")
def test_numbers_of_any_type_are_mapped(tmp_path, dtype, order):
    array = np.asarray(NUMBERS, dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    mapped = map_array(tmp_path / "a.npy", (dtype,), ("n", 3))
    assert isinstance(mapped, np.memmap) and mapped.dtype == dtype and np.array_equal(mapped, array)
    with pytest.raises(ValueError, match="read-only"):
        mapped[0] = 1


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,)])
def test_no_rows_are_read(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape, np.float16))
    assert map_array(tmp_path / "a.npy").shape == shape


@pytest.mark.parametrize(
    "content, message",
    [
        (npy(NUMBERS)[:-1], "is truncated .175 bytes, not 176"),
        (npy(NUMBERS) + b"\0", "holds more than its numbers .177 bytes, not 176"),
        (npy(NUMBERS)[:20], "is truncated or no .npy file"),
        (b"", "is truncated or no .npy file"),
        (b"\x93NUMPY\x09\0" + npy(NUMBERS)[8:], "is truncated or no .npy file"),
        (npy(NUMBERS, shape=(5, 3)), "is truncated"),
        (npy(NUMBERS, shape=(-4, -3)), "impossible shape"),
        (npy(NUMBERS, shape=(4, True)), "impossible shape"),
        (npy(NUMBERS, shape=(2**62, 2**62, 0)), "impossible shape"),
        (npy(NUMBERS, shape=(2**40, 2**40)), "impossible shape"),
        (npy(NUMBERS, shape=12), "no .npy file"),
        (npy(NUMBERS, shape=("4", 3)), "no .npy file"),
        (npy(NUMBERS, descr=">f4"), "in this machine's byte order: it holds >f4"),
        (npy(NUMBERS, descr="|O"), "plain numbers .*: it holds object"),
        (npy(NUMBERS, descr="<U3"), "plain numbers .*: it holds <U3"),
        (npy(NUMBERS, descr="<c8"), "plain numbers .*: it holds complex64"),
        (npy(NUMBERS, descr="<M8[s]"), "plain numbers .*: it holds datetime64"),
        (npy(NUMBERS, descr=[("a", "<f4"), ("b", "<f8")]), "plain numbers .*: it holds .*'a'"),
        (npy(NUMBERS, descr="nonsense"), "no .npy file"),
        (npy(NUMBERS, descr={}), "no .npy file"),
        (npy(NUMBERS, fortran_order=3), "no .npy file"),
        (npy(NUMBERS, extra=1), "no .npy file"),
        (npy(NUMBERS).replace(b"{", b"(" * 1), "no .npy file"),
        (npy(NUMBERS).replace(b"'descr'", b"\xff\xfe\x00cr'"), "no .npy file"),
        (b"\x93NUMPY\x01\0\xff\xff" + b"[" * 65535, "no .npy file"),
        (b"\x93NUMPY\x02\0\xff\xff\xff\xff" + b" " * 100, "no .npy file"),
        (pickle.dumps({}), "no .npy file"),
    ],
)  # fmt: skip
def test_files_that_are_no_arrays_of_numbers(tmp_path, content, message):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"a.npy: .*{message}.*; make it again$") as error:
        map_array(path, advice="make it again")
    assert "\n" not in str(error.value)


def test_other_types_and_shapes_are_refused(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, NUMBERS)
    with pytest.raises(DataError, match=r"is float32 \[4, 3\], not float16 or float64 \[n, 3\]"):
        map_array(path, ("float16", "float64"), ("n", 3))
    for shape in ((4,), (4, 3, 1), ("n", 2), (3, "n")):
        with pytest.raises(DataError, match=r"is float32 \[4, 3\], not numbers \["):
            map_array(path, shape=shape)


def test_written_arrays_are_sealed(tmp_path):
    path = tmp_path / "a.npy"
    write_array(path, NUMBERS)
    assert np.array_equal(read_array(path), NUMBERS) and np.array_equal(np.load(path), NUMBERS)
    good = path.read_bytes()
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        path.write_bytes(bad)
        with pytest.raises(DataError, match="a.npy: .*; count again"):
            read_array(path, advice="count again")
    np.save(path, NUMBERS)  # as earlier versions wrote them
    assert np.array_equal(read_array(path), NUMBERS)


EXPECTED = {"a": ("float32", (4, "n")), "b": ("int32", ("n",))}


def test_archives_of_arrays(tmp_path):
    path, given = tmp_path / "a.npz", {"a": NUMBERS, "b": np.arange(3, dtype=np.int32)}
    for write in (write_arrays, lambda path, arrays: np.savez(path, **arrays)):  # the second one as others do
        write(path, given)
        for read in (read_arrays(path, EXPECTED), np.load(path)):
            assert all(np.array_equal(read[name], given[name]) for name in given)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"a": NUMBERS}, "field 'b': is missing"),
        ({"a": NUMBERS.astype(np.float64), "b": np.arange(3, dtype=np.int32)}, ": is float64 .*, not float32"),
        ({"a": NUMBERS[:3], "b": np.arange(3, dtype=np.int32)}, r": is float32 \[3, 3\], not float32 \[4, n\]"),
        ({"a": np.array([{}]), "b": 3}, ": is no .npy file of plain numbers"),
    ],
)
def test_archives_of_other_arrays(tmp_path, given, message):
    np.savez(tmp_path / "a.npz", **given, allow_pickle=True)
    with pytest.raises(DataError, match=f"a.npz {message}".replace("npz :", "npz:")):
        read_arrays(tmp_path / "a.npz", EXPECTED)


def test_each_flipped_bit_of_an_archive_is_found(tmp_path):
    path = tmp_path / "a.npz"
    write_arrays(path, {"a": NUMBERS, "b": np.arange(3, dtype=np.int32)})
    good = path.read_bytes()
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        path.write_bytes(bad)
        with pytest.raises(DataError, match="a.npz: .*; evaluate again"):
            read_arrays(path, EXPECTED, "evaluate again")


def test_a_small_archive_of_gigabytes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "MAX_NPZ_BYTES", 1000)
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.zeros((4, 10), np.float32), b=np.zeros(300, np.int32))
    with pytest.raises(DataError, match="a.npz: inflates to more than 1,000 bytes"):
        read_arrays(path, EXPECTED)


def test_an_entry_that_is_not_what_its_header_says(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", npy(NUMBERS) + b"\0")
        archive.writestr("b.npy", npy(np.arange(3, dtype=np.int32)))
    with pytest.raises(DataError, match="a.npz field 'a': is not as large as its header says"):
        read_arrays(path, EXPECTED)
