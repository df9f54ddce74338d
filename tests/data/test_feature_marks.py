"""What feature files say of themselves: digests, rows that stand for nothing, who is writing them."""

import json
import multiprocessing
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from mlvl_fairseq.data.feature_arrays import import_features, unusable_rows
from mlvl_fairseq.data.feature_manifest import read_feature_manifest
from mlvl_fairseq.data.features import FeatureWriter, open_features, read_features
from mlvl_fairseq.data.images.policy import BadImagePolicy
from mlvl_fairseq.errors import DataError, UserError

NAMES = [f"{index}.jpg" for index in range(10)]
FEATURES = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)


def writer(stem, names=NAMES):
    return FeatureWriter(stem, names, 4, "tiny", "w1", flush_seconds=0.0)


@pytest.fixture
def stem(tmp_path):
    with writer(tmp_path / "f") as store:
        store.write(FEATURES)
    return tmp_path / "f"


def as_earlier_versions(stem, **changes):
    """Write a manifest as an earlier version did, which knew no digests; `changes` are somebody's."""
    path = Path(f"{stem}.json")
    manifest = {**json.loads(path.read_text()), **changes}
    late = ("digest", "header_crc", "block_crcs", "one_colour_rows", "pictures")
    path.write_text(json.dumps({name: value for name, value in manifest.items() if name not in late}))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"rows_done": 11}, ": is damaged"),
        ({"bad_rows": [10]}, ": is damaged"),
        ({"bad_rows": [-1]}, r" field 'bad_rows\[0\]': expected int"),
        ({"bad_rows": "3"}, " field 'bad_rows': expected array"),
        ({"shape": [10]}, " field 'shape': expected array of length 2"),
        ({"shape": [10, 0]}, r" field 'shape\[1\]': expected int"),
        ({"shape": [10**30, 4]}, ": not JSON"),
        ({"dtype": "object"}, " field 'dtype': "),
        ({"complete": 1}, " field 'complete': expected bool"),
    ],
)
def test_fields_of_manifests_are_checked(stem, changes, message):
    as_earlier_versions(stem, **changes)
    with pytest.raises(DataError, match=f"f.json{message}"):
        open_features(stem)


def flipped(content, bit):
    content = bytearray(content)
    content[bit // 8] ^= 1 << bit % 8
    return bytes(content)


def test_every_flipped_bit_is_found(stem):
    path, good = Path(f"{stem}.npy"), Path(f"{stem}.npy").read_bytes()
    for bit in range(0, 8 * len(good), 5):
        path.write_bytes(flipped(good, bit))
        with pytest.raises(DataError, match="f.npy: "):
            open_features(stem)
    path.write_bytes(good.replace(b"  \n", b" \t\n"))  # numpy reads that as it was
    with pytest.raises(DataError, match="f.npy: is damaged: its first bytes are not what was written"):
        open_features(stem)
    path.write_bytes(good)
    manifest, text = read_feature_manifest(stem), Path(f"{stem}.json").read_bytes()
    for bit in range(0, 8 * len(text), 7):
        Path(f"{stem}.json").write_bytes(flipped(text, bit))
        try:
            assert read_feature_manifest(stem) == manifest, bit  # white space outside of strings may change
        except DataError as error:
            assert "f.json" in str(error)


@pytest.mark.parametrize("rows", [slice(0, 10), slice(3, 4)])
def test_rows_that_were_overwritten_are_found(stem, rows):
    features = np.lib.format.open_memmap(f"{stem}.npy", mode="r+")
    features[rows] = 0
    features.flush()
    message = "f.npy: is damaged: some of its rows 1 to 10 are not what was written; delete it and .*f.json"
    with pytest.raises(DataError, match=message):
        open_features(stem)
    with pytest.raises(DataError, match=message):
        writer(stem)
    with pytest.raises(DataError, match=message):
        writer(stem, names=[*NAMES, "x"])


def test_digests_are_those_of_blocks_however_rows_were_written(tmp_path, monkeypatch):
    monkeypatch.setattr("mlvl_fairseq.data.feature_manifest.BLOCK_BYTES", 3 * 16)  # three rows
    for name, sizes in {"one": [10], "many": [1, 3, 4, 2], "blocks": [3, 3, 4]}.items():
        for start, size in zip(np.cumsum([0, *sizes]), sizes):
            with writer(tmp_path / name) as store:
                store.write(FEATURES[start : start + size])
    expected = [f"{zlib.crc32(FEATURES[start : start + 3].tobytes()):08x}" for start in (0, 3, 6, 9)]
    manifests = {(tmp_path / f"{name}.json").read_bytes() for name in ("one", "many", "blocks")}
    assert len(manifests) == 1 and json.loads(manifests.pop())["block_crcs"] == expected
    content = bytearray((tmp_path / "one.npy").read_bytes())
    content[-1] ^= 1
    (tmp_path / "one.npy").write_bytes(content)
    with pytest.raises(DataError, match="one.npy: is damaged: some of its rows 10 to 10 "):
        open_features(tmp_path / "one")


@pytest.mark.parametrize("done", [4, 10])
def test_features_of_earlier_versions_are_read_and_get_digests(tmp_path, done):
    features = np.array(FEATURES)
    features[2], features[3] = 0, 0.25
    with writer(tmp_path / "whole") as store:
        store.write(features)
    with writer(tmp_path / "f") as store:
        store.write(features[:done])
    as_earlier_versions(tmp_path / "f", bad_rows=[2])
    if done == 10:
        stored = read_features(tmp_path / "f")
        assert np.array_equal(stored.array, features) and np.flatnonzero(stored.unusable).tolist() == [2, 3]
    with writer(tmp_path / "f") as store:
        assert store.rows_done == done
        store.write(features[done:])
    for ending in ("npy", "json"):
        assert (tmp_path / f"f.{ending}").read_bytes() == (tmp_path / f"whole.{ending}").read_bytes()
    assert read_feature_manifest(tmp_path / "f").bad_rows == [2, 3]


def fingerprints(stem):
    """Of the first 0, 1, ... 7 rows."""
    return [read_features(stem).fingerprint(rows) for rows in range(8)]


def test_first_rows_keep_their_fingerprint(tmp_path, monkeypatch):
    monkeypatch.setattr("mlvl_fairseq.data.feature_manifest.BLOCK_BYTES", 3 * 16)
    with writer(tmp_path / "f", names=NAMES[:7]) as store:
        store.write(FEATURES[:7])
    before = fingerprints(tmp_path / "f")
    assert len(set(before)) == 8
    with writer(tmp_path / "f") as store:
        store.write(FEATURES[7:])
    assert fingerprints(tmp_path / "f") == before
    as_earlier_versions(tmp_path / "f")
    assert fingerprints(tmp_path / "f") == before
    other = np.array(FEATURES)
    other[4, 1] += 1
    with writer(tmp_path / "g") as store:
        store.write(other)
    assert [a == b for a, b in zip(fingerprints(tmp_path / "g"), before)] == [True] * 5 + [False] * 3


def write_slowly(stem, started):
    with writer(stem) as store:
        store.write(FEATURES[:4])
        started.set()
        time.sleep(60)


def test_second_writer_is_refused_and_a_killed_one_continued(tmp_path, monkeypatch):
    monkeypatch.setattr("mlvl_fairseq.process.locks.PATIENCE", 0.1)
    context = multiprocessing.get_context("fork")
    started = context.Event()
    process = context.Process(target=write_slowly, args=(tmp_path / "f", started))
    process.start()
    try:
        assert started.wait(10)
        with pytest.raises(UserError, match=f"another process is at work in {tmp_path}/f: wait until it has ended"):
            writer(tmp_path / "f")
        with writer(tmp_path / "g") as store:  # others are free
            store.write(FEATURES)
    finally:
        process.kill()
        process.join()
    with writer(tmp_path / "f") as store:
        assert store.rows_done == 4
        store.write(FEATURES[4:])
    for ending in ("npy", "json"):
        assert (tmp_path / f"f.{ending}").read_bytes() == (tmp_path / f"g.{ending}").read_bytes()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_rows_that_say_nothing(dtype):
    rows = np.array([[0, 0], [1, 1], [np.nan, 1], [1, np.inf], [-3, -3], [0, 1], [1, 1.001]], dtype)
    assert unusable_rows(rows).tolist() == [True, True, True, True, True, False, False]
    assert unusable_rows(np.array([[0], [2], [np.nan]], dtype)).tolist() == [True, False, True]
    many = np.ones((10_000, 3), dtype)
    many[7_000, 2] = 2
    assert np.flatnonzero(~unusable_rows(many)).tolist() == [7_000]


def test_rows_too_short_to_be_normalised_say_nothing():
    assert unusable_rows(np.array([[1e-13, -2e-13], [1e-11, 0]], np.float32)).tolist() == [True, False]


def test_given_features_that_say_nothing_stop_or_are_left_out(tmp_path):
    features = np.array(FEATURES)
    features[1], features[4], features[6, 2], features[8] = 0, 2.5, np.nan, np.inf
    np.save(tmp_path / "x.npy", features)
    (tmp_path / "x.txt").write_text("".join(f"{name}\n" for name in NAMES))
    files = tmp_path / "x.npy", tmp_path / "x.txt"
    with pytest.raises(DataError, match=r"x.npy: the feature of '1.jpg' is zero \(--bad-image skip"):
        import_features(*files, NAMES)
    with pytest.raises(DataError, match="the feature of '4.jpg' is the same number in every dimension"):
        import_features(*files, NAMES[2:])
    with pytest.raises(DataError, match=r"'8.jpg' is not finite.*\(bad image 4; --max-bad-images allows 3\)"):
        import_features(*files, NAMES, BadImagePolicy("skip", 3))
    found, bad = import_features(*files, NAMES[::-1], BadImagePolicy("skip", 4))
    expected = np.array(FEATURES[::-1])
    expected[[1, 3, 5, 8]] = 0
    assert bad.tolist() == [1, 3, 5, 8] and np.array_equal(found, expected)
    assert np.array_equal(np.load(tmp_path / "x.npy"), features, equal_nan=True)
