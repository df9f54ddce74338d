"""The feature store: what is written is what is read, interruptions cost nothing, misfits are refused."""

import errno
import json
import multiprocessing
import os
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mlvl_fairseq.data.feature_arrays import import_features
from mlvl_fairseq.data.feature_extraction import extract_image_features
from mlvl_fairseq.data.feature_manifest import read_feature_manifest
from mlvl_fairseq.data.features import FeatureWriter, computing_once, is_finished, open_features
from mlvl_fairseq.data.images.policy import BadImagePolicy
from mlvl_fairseq.data.images.reading import ImageDataset
from mlvl_fairseq.data.images.transforms import ImageTransform
from mlvl_fairseq.errors import DataError, UserError

NAMES = [f"{index}.jpg" for index in range(10)]
FEATURES = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)


def writer(stem, names=NAMES, dim=4, model="tiny", weights="w1", **options):
    return FeatureWriter(stem, names, dim, model, weights, **{"flush_seconds": 0.0, **options})


@pytest.fixture
def stem(tmp_path):
    with writer(tmp_path / "f") as store:
        store.write(FEATURES)
    return tmp_path / "f"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_features_come_back_as_written(tmp_path, dtype):
    with writer(tmp_path / "a.b", dtype=dtype) as store:
        store.write(FEATURES[:3])
        store.write(FEATURES[3:].astype(np.float64))
    features = open_features(tmp_path / "a.b", expect_rows=10, expect_fingerprint="w1", expect_row_names=NAMES)
    assert isinstance(features, np.memmap) and features.dtype == dtype and not features.flags.writeable
    assert np.array_equal(features, FEATURES.astype(dtype))
    assert np.array_equal(np.load(tmp_path / "a.b.npy", allow_pickle=False), features)
    manifest = json.loads((tmp_path / "a.b.json").read_text())
    assert manifest["shape"] == [10, 4] and manifest["dtype"] == dtype and manifest["model"] == "tiny"
    assert manifest["complete"] and manifest["rows_done"] == 10 and manifest["bad_rows"] == []


def test_bad_rows_are_zeros_and_listed(tmp_path):
    with writer(tmp_path / "f") as store:
        store.write(FEATURES[:4])
        store.write(np.where(np.arange(24).reshape(6, 4) // 4 == 2, np.nan, FEATURES[4:]), bad=[2])
    assert read_feature_manifest(tmp_path / "f").bad_rows == [6]
    assert not open_features(tmp_path / "f")[6].any() and open_features(tmp_path / "f")[7].all()


def test_interrupted_writing_goes_on_where_it_was(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with writer(tmp_path / "f") as store:
            store.write(FEATURES[:3])
            raise KeyboardInterrupt
    with pytest.raises(DataError, match="only 3 of 10 rows are done; run the extraction again"):
        open_features(tmp_path / "f")
    with writer(tmp_path / "f") as store:
        assert store.rows_done == 3
        store.write(FEATURES[3:])
    assert np.array_equal(open_features(tmp_path / "f"), FEATURES)


def write_rows(stem, started, goes_on, before):
    """What mlvl-prepare does: rows that are written in batches; it pauses before row `before`."""
    try:
        with writer(stem, flush_seconds=1e9) as store:
            for row in range(store.rows_done, len(FEATURES)):
                if row == before:
                    started.set()
                    goes_on.wait(60)
                store.write(FEATURES[row : row + 1])
                store._file.flush()
    finally:
        started.set()


@pytest.mark.parametrize("before", [0, 1, 6, 9])
@pytest.mark.parametrize("killed", ["first", "second"])
def test_of_two_writers_one_is_killed_and_all_rows_are_there(tmp_path, monkeypatch, before, killed):
    """Without a lock the second one would empty the file under the first, whose rows would stay zeros."""
    monkeypatch.setattr("mlvl_fairseq.process.locks.PATIENCE", 0.1)
    context = multiprocessing.get_context("fork")
    go_on, processes = {}, {}
    for name, pause in (("first", before), ("second", 0)):
        started, go_on[name] = context.Event(), context.Event()  # one each: a killed process waits for ever
        arguments = (tmp_path / "f", started, go_on[name], pause)
        processes[name] = context.Process(target=write_rows, args=arguments)
        processes[name].start()
        assert started.wait(10)
    processes[killed].kill()
    go_on["second" if killed == "first" else "first"].set()
    for process in processes.values():
        process.join(30)
        assert process.exitcode is not None
    write_rows(tmp_path / "f", context.Event(), context.Event(), before=-1)
    assert read_feature_manifest(tmp_path / "f").complete
    assert np.array_equal(open_features(tmp_path / "f"), FEATURES)


def test_killed_process_loses_only_what_was_not_counted(tmp_path):
    store = writer(tmp_path / "f")
    store.write(FEATURES[:5])
    store._flush_seconds = 1e9
    store.write(FEATURES[5:8])  # written, not yet counted
    store._file.close()  # as the end of the process would
    store._held.close()
    with writer(tmp_path / "f") as resumed:
        assert resumed.rows_done == 5
        resumed.write(FEATURES[5:])
    assert np.array_equal(open_features(tmp_path / "f"), FEATURES)


def test_finished_features_are_left_alone(stem):
    before = (Path(f"{stem}.npy").read_bytes(), Path(f"{stem}.json").read_bytes())
    with writer(stem) as store:
        assert store.rows_done == 10
    assert before == (Path(f"{stem}.npy").read_bytes(), Path(f"{stem}.json").read_bytes())


@pytest.mark.parametrize(
    "options, setting",
    [
        ({"weights": "w2"}, "weights_fingerprint w1, now it is w2"),
        ({"model": "other"}, "model tiny, now it is other"),
        ({"dim": 5}, r"shape \(10, 4\), now it is \(10, 5\)"),
        ({"dtype": "float16"}, "dtype float32, now it is float16"),
        ({"names": NAMES[::-1]}, "row_names_fingerprint"),
        ({"transform": "mclip@224"}, "transform None, now it is mclip@224"),
    ],
)
def test_other_settings_are_not_mixed_in(stem, options, setting):
    with pytest.raises(DataError, match=f"{setting}.*to start over, delete .*f.npy and .*f.json"):
        writer(stem, **options)
    assert np.array_equal(open_features(stem), FEATURES)


@pytest.mark.parametrize("done", [0, 4, 6])
def test_rows_that_are_added_behind_go_on_where_the_first_ended(tmp_path, done):
    with writer(tmp_path / "f", names=NAMES[:6]) as store:
        store.write(FEATURES[:done], bad=range(min(done, 1)))
    if done == 6:
        with pytest.raises(DataError, match="holds 6 of 10 rows, more have been added since; run the same extraction"):
            open_features(tmp_path / "f", expect_row_names=NAMES)
    with writer(tmp_path / "f") as store:
        assert store.rows_done == done
        store.write(FEATURES[done:])
    expected = np.where(np.arange(10)[:, None] < min(done, 1), 0, FEATURES)
    assert np.array_equal(open_features(tmp_path / "f", expect_row_names=NAMES), expected)
    assert read_feature_manifest(tmp_path / "f").bad_rows == [0] * min(done, 1)


def test_an_interrupted_addition_of_rows_is_repeated(tmp_path, monkeypatch):
    with writer(tmp_path / "f", names=NAMES[:6]) as store:
        store.write(FEATURES[:6])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            "mlvl_fairseq.data.feature_manifest.write_json", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        writer(tmp_path / "f")
    assert np.load(tmp_path / "f.npy").shape == (10, 4) and read_feature_manifest(tmp_path / "f").shape == (6, 4)
    with writer(tmp_path / "f") as store:
        assert store.rows_done == 6
        store.write(FEATURES[6:])
    assert np.array_equal(open_features(tmp_path / "f", expect_row_names=NAMES), FEATURES)


@pytest.mark.parametrize("damaged", [FEATURES[:9], FEATURES[:, :3], FEATURES.astype(np.float64)])
def test_nothing_is_added_to_a_damaged_array(stem, damaged):
    np.save(f"{stem}.npy", damaged)
    with pytest.raises(DataError, match="f.npy: lacks some of the 10 rows that its manifest counts"):
        writer(stem, names=[*NAMES, "x"])
    assert np.array_equal(np.load(f"{stem}.npy"), damaged) and read_feature_manifest(stem).shape == (10, 4)


@pytest.mark.parametrize("options", [{"weights": "w2"}, {"dim": 5}, {"names": ["x", *NAMES]}])
def test_nothing_is_added_to_features_of_other_settings(stem, options):
    with pytest.raises(DataError, match="to start over, delete"):
        writer(stem, **{"names": [*NAMES, "x"], **options})
    assert np.array_equal(open_features(stem, expect_row_names=NAMES), FEATURES)


def test_foreign_array_is_not_overwritten(tmp_path):
    np.save(tmp_path / "f.npy", FEATURES)
    with pytest.raises(DataError, match="f.npy: was not written by this command"):
        writer(tmp_path / "f")
    assert np.array_equal(np.load(tmp_path / "f.npy"), FEATURES)


@pytest.mark.parametrize(
    "rows, dtype, message",
    [
        (np.zeros((3, 5)), "float32", r"shape \(3, 5\) do not fit \(10, 4\)"),
        (np.zeros((11, 4)), "float32", r"shape \(11, 4\) do not fit"),
        (np.zeros(4), "float32", r"shape \(4,\) do not fit"),
        (np.where(np.arange(12).reshape(3, 4) == 5, np.nan, 0.0), "float32", "f.npy:2: features that are not finite"),
        (np.full((2, 4), 1e6), "float16", "not finite in float16; use float32"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path, rows, dtype, message):
    with writer(tmp_path / "f", dtype=dtype) as store, pytest.raises(DataError, match=message):
        store.write(rows)
    assert read_feature_manifest(tmp_path / "f").rows_done == 0


def test_full_disk_keeps_what_was_written(tmp_path):
    class FullDisk:
        def __init__(self, file):
            self.file = file

        def write(self, _content):
            raise OSError(errno.ENOSPC, "No space left on device")

        def __getattr__(self, name):
            return getattr(self.file, name)

    with pytest.raises(OSError, match="No space left on device: .*f.npy"):
        with writer(tmp_path / "f") as store:
            store.write(FEATURES[:5])
            store._file = FullDisk(store._file)
            store.write(FEATURES[5:])
    with writer(tmp_path / "f") as store:
        assert store.rows_done == 5
        store.write(FEATURES[5:])
    assert np.array_equal(open_features(tmp_path / "f"), FEATURES)


@pytest.mark.parametrize(
    "expected, message",
    [
        ({"expect_rows": 9}, "f.npy: holds 10 rows where 9 are needed"),
        ({"expect_fingerprint": "0" * 64}, r"computed with weights w1 \(tiny\), needed are those of 000000000000;"),
        ({"expect_row_names": NAMES[::-1]}, "its rows have other names or another order"),
        ({"expect_row_names": NAMES[:9]}, "its rows have other names or another order"),
    ],
)
def test_unexpected_features_are_refused(stem, expected, message):
    with pytest.raises(DataError, match=message):
        open_features(stem, **expected)


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_hostile_and_damaged_arrays_are_refused(stem):
    path, marker = Path(f"{stem}.npy"), stem.parent / "executed"
    good = path.read_bytes()
    objects = np.array([Payload(marker)] * 40, dtype=object).reshape(10, 4)
    np.save(path, objects, allow_pickle=True)
    pickled_objects = path.read_bytes()
    for content, message in [
        (pickled_objects, "no .npy file of plain numbers"),
        (pickle.dumps(Payload(marker)), "no .npy file of plain numbers"),
        (good[:-1], "truncated"),
        (good[:20], "truncated"),
        (b"", "truncated"),
    ]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"f.npy: .*{message}"):
            open_features(stem)
    np.save(path, FEATURES[:9])
    with pytest.raises(DataError, match=r"is float32 \(9, 4\), its manifest says float32 \(10, 4\)"):
        open_features(stem)
    np.save(path, np.asfortranarray(FEATURES))
    with pytest.raises(DataError, match="f.npy: "):
        open_features(stem)
    path.unlink()
    with pytest.raises(DataError, match="f.npy: no such file"):
        open_features(stem)
    assert not marker.exists()


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", ": not JSON"),
        ("[]", ": expected object"),
        ('{"format_version": 2}', ": is no feature manifest of version 1"),
        ('{"format_version": 1, "model": "m"}', " field 'weights_fingerprint': is missing"),
    ],
)
def test_damaged_manifests_are_refused(stem, content, message):
    Path(f"{stem}.json").write_text(content)
    with pytest.raises(DataError, match=f"f.json{message}"):
        open_features(stem)
    with pytest.raises(DataError, match=f"f.json{message}"):
        writer(stem)


def write_list(path, names):
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_imported_features_follow_the_names(tmp_path, dtype):
    np.save(tmp_path / "x.npy", FEATURES.astype(dtype))
    write_list(tmp_path / "x.txt", NAMES)
    features, bad = import_features(tmp_path / "x.npy", tmp_path / "x.txt", ["7.jpg", "0.jpg", "7.jpg"])
    assert not len(bad)
    assert features.dtype == dtype and np.array_equal(features, FEATURES.astype(dtype)[[7, 0, 7]])
    same, _ = import_features(tmp_path / "x.npy", tmp_path / "x.txt", NAMES)
    assert isinstance(same, np.memmap) and np.array_equal(same, FEATURES.astype(dtype))


@pytest.mark.parametrize(
    "array, names, wanted, message",
    [
        (FEATURES, NAMES[:9], NAMES[:2], "x.txt: names 9 rows, but .*x.npy has 10"),
        (FEATURES, NAMES[:9] + ["3.jpg"], NAMES[:2], "x.txt:10: name '3.jpg' is already in line 4"),
        (FEATURES, NAMES[:9] + [" "], NAMES[:2], "x.txt:10: is empty where a row's name is expected"),
        (FEATURES, NAMES, ["a", "0.jpg", "b"], "x.txt: lacks 2 of 3 image names, such as 'a', 'b'"),
        (FEATURES.astype(int), NAMES, NAMES, r"x.npy: is int64 \[10, 4\], not float16 or float32 \[n, d\]"),
        (FEATURES[0], NAMES[:4], NAMES[:4], r"x.npy: is float32 \[4\], not float16"),
        (np.where(FEATURES > 1, np.inf, FEATURES), NAMES, NAMES, "x.npy: the feature of '1.jpg' is not finite"),
    ],
)
def test_features_that_do_not_fit_their_list_are_refused(tmp_path, array, names, wanted, message):
    np.save(tmp_path / "x.npy", array)
    write_list(tmp_path / "x.txt", names)
    with pytest.raises(DataError, match=message):
        import_features(tmp_path / "x.npy", tmp_path / "x.txt", wanted)


def test_list_that_is_not_utf8_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", FEATURES[:2])
    (tmp_path / "x.txt").write_bytes("a.jpg\nü.jpg\n".encode("latin-1"))
    with pytest.raises(DataError, match="x.txt:2: is not UTF-8"):
        import_features(tmp_path / "x.npy", tmp_path / "x.txt", ["a.jpg"])


@pytest.mark.skipif("MLVL_SHARED_DATA" not in os.environ, reason="MLVL_SHARED_DATA names no real data")
def test_real_features_of_flickr8k():
    folder = Path(os.environ["MLVL_SHARED_DATA"]) / "flickr8k_multilingual"
    names = sorted({row["image"] for row in json.loads((folder / "val.de.json").read_text())})
    features, _ = import_features(folder / "squeezenet.val.npy", folder / "squeezenet.val.images.txt", names)
    assert features.shape == (len(names), 2024) and features.dtype == np.float16


class CountingEncoder:
    """Mean colour of each image; fails at the given call like an interruption."""

    def __init__(self, fail_at=None):
        self.calls, self.fail_at = 0, fail_at

    def __call__(self, pixels):
        if self.calls == self.fail_at:
            raise KeyboardInterrupt
        self.calls += 1
        return pixels.mean(dim=(2, 3))


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(1)
    for name in NAMES:
        Image.fromarray(rng.integers(0, 256, (20, 24, 3)).astype(np.uint8)).save(tmp_path / "photos" / name)
    return ImageDataset(tmp_path / "photos", NAMES, ImageTransform("clip", 16))


def extract(photos, encode, stem, **options):
    return extract_image_features(photos, encode, stem, 3, "mean colour", "w", batch_size=3, **options)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_extraction_gives_the_models_features(photos, tmp_path, num_workers):
    manifest = extract(photos, CountingEncoder(), tmp_path / "f", num_workers=num_workers)
    assert manifest.complete and manifest.bad_rows == []
    expected = torch.stack([photos[row].pixels.mean(dim=(1, 2)) for row in range(10)])
    features = open_features(tmp_path / "f", expect_row_names=NAMES, expect_fingerprint="w")
    torch.testing.assert_close(torch.from_numpy(np.array(features)), expected)


def test_interrupted_extraction_computes_no_batch_twice(photos, tmp_path):
    extract(photos, CountingEncoder(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        extract(photos, CountingEncoder(fail_at=2), tmp_path / "f")
    rest = CountingEncoder()
    extract(photos, rest, tmp_path / "f")
    assert rest.calls == 2  # of four batches, two were there
    assert (tmp_path / "f.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    extract(photos, rest, tmp_path / "f")
    assert rest.calls == 2


def test_bad_images_stop_or_are_skipped_with_a_limit(photos, tmp_path):
    (photos.root / "4.jpg").write_bytes(b"")
    (photos.root / "5.jpg").write_bytes((photos.root / "5.jpg").read_bytes()[:300])
    (photos.root / "3.jpg").unlink()
    with pytest.raises(DataError, match="3.jpg: no such image.*--bad-image skip"):
        extract(photos, CountingEncoder(), tmp_path / "e")
    with pytest.raises(DataError, match="5.jpg: cannot be decoded.*bad image 3; --max-bad-images allows 2"):
        extract(photos, CountingEncoder(), tmp_path / "l", policy=BadImagePolicy("skip", limit=2))
    manifest = extract(photos, CountingEncoder(), tmp_path / "s", policy=BadImagePolicy("skip", limit=3))
    features = open_features(tmp_path / "s")
    assert manifest.bad_rows == [3, 4, 5]
    assert [row for row in range(10) if not features[row].any()] == [3, 4, 5]
    with pytest.raises(DataError, match="3 bad images were skipped here before, the first is '3.jpg'"):
        extract(photos, CountingEncoder(), tmp_path / "s", policy=BadImagePolicy("error"))


def test_names_of_given_features_are_those_of_captions(tmp_path):
    """Ids of captions are no part of a name, and a file is found with its ending, as where captions are read."""
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.jpg", "c.png#0"):
        (tmp_path / "images" / name).touch()
    features = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    np.save(tmp_path / "f.npy", features)
    (tmp_path / "f.txt").write_text("a.png#3\nb\nc.png#0\n")
    wanted = ["c.png#0", "a.png", "b.jpg"]
    found, _ = import_features(tmp_path / "f.npy", tmp_path / "f.txt", wanted, image_root=tmp_path / "images")
    assert found.tolist() == [[5, 6], [1, 2], [3, 4]]
    (tmp_path / "f.txt").write_text("a.png#3\nb.jpg\na.png#1\n")
    with pytest.raises(DataError, match="f.txt: lacks 1 of 1 image names, such as 'a.png'"):
        import_features(tmp_path / "f.npy", tmp_path / "f.txt", ["a.png"], image_root=tmp_path / "images")
    found, _ = import_features(tmp_path / "f.npy", tmp_path / "f.txt", ["a.png#1", "b.jpg"])  # earlier corpora
    assert found.tolist() == [[5, 6], [3, 4]]


def test_there_must_be_room_for_all_rows_that_are_to_come(tmp_path, monkeypatch):
    with writer(tmp_path / "f", dim=1 << 18) as store:
        store.write(np.ones((4, 1 << 18)))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=6 << 20))
    with writer(tmp_path / "f", dim=1 << 18):  # six rows of a mebibyte are left
        pass
    with pytest.raises(UserError, match="the features in g.npy need at least 10 MiB, 6 MiB are free: make room"):
        writer(tmp_path / "g", dim=1 << 18)
    assert not list(tmp_path.glob("*g*"))


def test_what_another_process_has_computed_meanwhile_is_not_computed_again(stem):
    assert is_finished(stem, NAMES) and not is_finished(stem, NAMES[:-1]) and not is_finished(f"{stem}2", NAMES)
    for finished in (True, False):
        with computing_once(stem.parent / "new" / "f", lambda: finished) as is_mine:
            assert is_mine is not finished
