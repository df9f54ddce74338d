"""A sealed file tells every flipped bit, and is to other programs what it was."""

import binascii
import io
import zipfile

import numpy as np
import pytest

from mlvl_fairseq.digests import SEAL_BYTES, crc32_of, require_seal, require_zip, seal
from mlvl_fairseq.errors import DataError


def sealed(content: bytes) -> bytes:
    file = io.BytesIO()
    file.write(content)
    seal(file)
    return file.getvalue()


def a_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", "text " * 10)
    return file.getvalue()


def an_npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.arange(9))
    return file.getvalue()


def test_the_digest_is_crc32_whatever_the_chunks():
    assert crc32_of(io.BytesIO(b"123456789")) == 0xCBF43926  # the check value of the CRC catalogues
    assert crc32_of(io.BytesIO(b"123456789abc"), 9) == 0xCBF43926
    content = bytes(range(256)) * 10_000
    assert crc32_of(io.BytesIO(content)) == binascii.crc32(content)


@pytest.mark.parametrize("content", [a_zip(), an_npy(), b"", b"short", b"PK\x05\x06"], ids=lambda one: len(one))
def test_each_flipped_bit_is_found(content):
    good = sealed(content)
    assert len(good) == len(content) + SEAL_BYTES
    require_seal(io.BytesIO(good), "a", "")
    for place in range(8 * len(good)):
        bad = bytearray(good)
        bad[place // 8] ^= 1 << place % 8
        with pytest.raises(DataError) as error:
            require_seal(io.BytesIO(bytes(bad)), "a.bin", "copy it again")
        assert (
            str(error.value)
            == "a.bin: is truncated or damaged: some of its bytes are not those that were written; copy it again"
        )


def test_zips_without_seal_are_whole_or_refused():
    good = a_zip()
    assert not require_zip(io.BytesIO(good), "a", "") and require_zip(io.BytesIO(sealed(good)), "a", "")
    for bad in (good[:-1], good + b"x", sealed(good)[:-1], sealed(good) + b"\0", b"", good[:30]):
        with pytest.raises(DataError, match="a: is truncated or damaged"):
            require_zip(io.BytesIO(bad), "a", "")


def test_the_position_stays():
    for content, check in ((an_npy(), require_seal), (a_zip(), require_zip)):
        file = io.BytesIO(sealed(content))
        file.seek(3)
        check(file, "a", "")
        assert file.tell() == 3


def test_other_programs_read_sealed_files():
    with zipfile.ZipFile(io.BytesIO(sealed(a_zip()))) as archive:
        assert archive.testzip() is None and archive.read("a.txt") == b"text " * 10
    assert np.array_equal(np.load(io.BytesIO(sealed(an_npy())), allow_pickle=False), np.arange(9))
