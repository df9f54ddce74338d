"""Pictures and captions of archives are those of the files that were put into them, wherever pictures are read."""

import io
import json
import logging
import os
import tarfile

import numpy as np
import pytest
from PIL import Image

from mlvl_fairseq.data.archives import archive_at, archived
from mlvl_fairseq.data.captions import read_captions
from mlvl_fairseq.data.data_files import stream_files
from mlvl_fairseq.data.feature_extraction import extract_image_features
from mlvl_fairseq.data.image_names import ImageFolder
from mlvl_fairseq.data.images.reading import ImageDataset, load_image
from mlvl_fairseq.data.images.transforms import ImageTransform
from mlvl_fairseq.errors import DataError, UserError

PICTURES = 7
CAPTIONS = [f"picture number {row}" for row in range(PICTURES)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Seven pictures as files: ``0.png``, ..."""
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    for row in range(PICTURES):
        Image.fromarray(rng.integers(0, 256, (9, 8 + row, 3), np.uint8)).save(folder / f"{row}.png")
    return folder


def write_tar(path, members):
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def record(files, row, text=None):
    """Members of a record; its caption in JSON if `row` is even, else as text."""
    caption = text or (("json", {"caption": CAPTIONS[row], "width": 8}) if row % 2 == 0 else ("txt", CAPTIONS[row]))
    content = json.dumps(caption[1]) if caption[0] == "json" else caption[1]
    return [(f"x/{row:03d}.{caption[0]}", content.encode()), (f"x/{row:03d}.png", (files / f"{row}.png").read_bytes())]


@pytest.fixture
def shards(files, tmp_path):
    """Two tar files: four records, and three."""
    for shard, rows in (("0.tar", range(4)), ("1.tar", range(4, 7))):
        write_tar(tmp_path / "shards" / shard, [member for row in rows for member in record(files, row)])
    return tmp_path / "shards"


@pytest.fixture
def parquet(files, tmp_path):
    """A Parquet file of three row groups, as Hugging Face's data sets have it."""
    pa = pytest.importorskip("pyarrow", reason="pip install 'mlvl_fairseq[parquet]': pyarrow is not installed")
    from pyarrow import parquet

    pictures = [{"bytes": (files / f"{row}.png").read_bytes(), "path": f"{row}.png"} for row in range(PICTURES)]
    table = pa.table({"image": pictures, "caption": CAPTIONS, "language": ["en"] * 6 + ["de"]})
    (tmp_path / "tables").mkdir()
    parquet.write_table(table, tmp_path / "tables" / "a.parquet", row_group_size=3)
    return tmp_path / "tables"


@pytest.fixture
def database(files, tmp_path):
    """An LMDB whose keys are the names of files."""
    lmdb = pytest.importorskip("lmdb", reason="pip install 'mlvl_fairseq[lmdb]': lmdb is not installed")
    with (
        lmdb.open(str(tmp_path / "pictures.lmdb"), map_size=1 << 22) as environment,
        environment.begin(write=True) as t,
    ):
        for row in range(PICTURES):
            t.put(f"{row}.png".encode(), (files / f"{row}.png").read_bytes())
        t.put(b"__len__", b"7")
    return tmp_path / "pictures.lmdb"


def pixels(image):
    return np.asarray(image.convert("RGB"))


def expected(files, row):
    return pixels(Image.open(files / f"{row}.png"))


NAMES = {
    "shards": [f"{int(row > 3)}.tar/x/{row:03d}.png" for row in range(PICTURES)],
    "parquet": [f"a.parquet/{row}" for row in range(PICTURES)],
    "database": [f"{row}.png" for row in range(PICTURES)],
}


@pytest.mark.parametrize("kind, names", NAMES.items())
def test_pictures_are_those_of_the_files(request, files, kind, names):
    root = request.getfixturevalue(kind)
    folder, order = ImageFolder(root), [3, 0, 6, 1, 5, 2, 4, 4]  # as they come
    for row in order:
        np.testing.assert_array_equal(pixels(load_image(folder.path(names[row]))), expected(files, row))
    dataset = ImageDataset(root, names, lambda image: image)
    assert [dataset.names[row] for row in order] == [names[row] for row in order]
    missing = [f"{names[0]}x", names[2]]
    assert folder.missing(missing).tolist() == [0]
    with pytest.raises(DataError, match="there is no picture '.*x' in it"):
        load_image(folder.path(missing[0]))


def test_names_are_in_the_archive_s_order(shards, parquet, database):
    assert archive_at(shards / "1.tar").names() == [f"x/{row:03d}.png" for row in (4, 5, 6)]
    assert archive_at(parquet / "a.parquet").names() == list(map(str, range(PICTURES)))
    assert archive_at(database).names() == [f"{row}.png" for row in range(PICTURES)]
    assert archived(shards / "0.tar" / "x" / "000.png")[1] == "x/000.png"
    assert archived(shards / "0.tar") is None and archived(shards / "none" / "0.png") is None
    assert "x/000.png" in archive_at(shards / "0.tar") and "x/000.json" not in archive_at(shards / "0.tar")
    assert "__len__" not in archive_at(database) and "03" not in archive_at(parquet / "a.parquet")


@pytest.mark.parametrize("given", ["shards", "shards/*.tar", "shards/0.tar,shards/1.tar"])
def test_captions_of_tar_files(shards, given, monkeypatch):
    monkeypatch.chdir(shards.parent)
    table = read_captions(given, lang="en", image_root=shards, check_images=True)
    assert table.captions == CAPTIONS and [table.images[row] for row in table.image_rows] == NAMES["shards"]
    assert not table.problems and table.lines.tolist() == [1, 2, 3, 4, 1, 2, 3]
    assert read_captions(given, lang="en").images == NAMES["shards"], "without a root, from the folder of archives"
    above = read_captions(given, lang="en", image_root=shards.parent, check_images=True)
    assert above.images == [f"shards/{name}" for name in NAMES["shards"]] and not above.problems


def test_captions_of_parquet(parquet):
    english = read_captions(parquet / "a.parquet", lang="en", image_root=parquet)
    assert english.captions == CAPTIONS[:6] and english.images == [f"a.parquet/{row}" for row in range(6)]
    german = read_captions(
        parquet / "a.parquet", lang="de", image_root=parquet, columns="image=image,caption=caption,language=language"
    )
    assert german.captions == CAPTIONS[6:] and german.images == ["a.parquet/6"]


def test_the_index_is_kept_and_made_again_where_the_archive_changed(shards, files, monkeypatch):
    path, index = shards / "0.tar", shards / "0.tar.index.npz"
    assert len(archive_at(path).names()) == 4 and index.exists()
    assert stream_files(str(shards), "--image-text") == [str(shards / "0.tar"), str(shards / "1.tar")]
    from mlvl_fairseq.data.archives.kinds import tar

    def never(*_):
        raise AssertionError("looked for its members again")

    with monkeypatch.context() as patch:
        patch.setattr(tar, "tar_members", never)
        assert len(tar.TarArchive(str(path)).names()) == 4
    write_tar(path, [member for row in (5, 6) for member in record(files, row)])
    os.utime(path, ns=(1, 1))
    assert archive_at(path).names() == ["x/005.png", "x/006.png"]
    np.testing.assert_array_equal(pixels(load_image(path / "x" / "006.png")), expected(files, 6))
    index.write_bytes(index.read_bytes()[:-20])
    with pytest.raises(DataError, match="0.tar.index.npz: .*delete it, it is made again"):
        tar.TarArchive(str(path))


def test_an_index_that_cannot_be_kept_is_told(shards, caplog, monkeypatch):
    from mlvl_fairseq.data.archives.kinds import tar

    def refuse(path, arrays):
        raise DataError("cannot be written: Read-only file system", path)

    monkeypatch.setattr(tar, "write_arrays", refuse)
    with caplog.at_level(logging.WARNING):
        assert len(tar.TarArchive(str(shards / "0.tar")).names()) == 4
    assert "its index cannot be kept, each process looks for its pictures again" in caplog.text


def test_records_that_cannot_be_used_are_counted(files, tmp_path):
    members = [
        *record(files, 0),
        *record(files, 1, ("json", [1, 2])),
        ("x/002.png", (files / "2.png").read_bytes()),  # no text
        ("x/003.json", b"{broken"),
        ("x/003.png", (files / "3.png").read_bytes()),
        ("x/004.txt", b"\xff\xfe"),
        ("x/004.png", b"no picture"),
        *record(files, 5, ("txt", "")),
    ]
    write_tar(tmp_path / "a.tar", members)
    table = read_captions(tmp_path / "a.tar", lang="en", image_root=tmp_path)
    assert table.captions == CAPTIONS[:1]
    assert table.problems.counts == {"wrong type": 3, "missing field": 1, "empty caption": 1}
    shown = table.problems.summary()
    for text in (
        "a.tar:2: 'x/001.json': is no JSON object",
        "'x/003.json': cannot be read",
        "'x/004.txt': cannot be read",
    ):
        assert text in shown
    with pytest.raises(DataError, match="a.tar:2"):
        read_captions(tmp_path / "a.tar", lang="en", image_root=tmp_path, on_problem="error")
    with pytest.raises(DataError, match="a.tar/x/004.png: cannot be decoded"):
        load_image(tmp_path / "a.tar" / "x" / "004.png")


def test_what_is_wrong_in_a_shard_is_told_of_the_shard(shards, files):
    write_tar(shards / "2.tar", [*record(files, 0), *record(files, 1, ("txt", " "))])
    table = read_captions(shards, lang="en", image_root=shards)
    assert table.problems.examples == {"empty caption": [f"{shards / '2.tar'}:2 field 'caption': is empty (row 2)"]}
    assert len(table) == PICTURES + 1 and table.path == str(shards)


def test_damaged_archives_are_one_line(shards, parquet, tmp_path):
    whole = (shards / "0.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cut.tar: .*truncated"):
        read_captions(tmp_path / "cut.tar", lang="en")
    content = (parquet / "a.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(content[:-9])
    with pytest.raises(DataError, match="cut.parquet: is damaged or no Parquet file") as error:
        read_captions(tmp_path / "cut.parquet", lang="en")
    assert "\n" not in str(error.value)


def test_archives_of_two_kinds_are_not_mixed(shards, parquet, tmp_path):
    (shards / "b.parquet").write_bytes((parquet / "a.parquet").read_bytes())
    with pytest.raises(UserError, match="there are archives of the kinds parquet and tar: give files"):
        read_captions(shards, lang="en")
    assert len(read_captions(str(shards / "*.tar"), lang="en")) == PICTURES


def test_columns_of_pictures_are_told_apart(files, tmp_path):
    pa = pytest.importorskip("pyarrow", reason="pip install 'mlvl_fairseq[parquet]': pyarrow is not installed")
    from pyarrow import parquet

    picture = [(files / "0.png").read_bytes()]
    for columns, found in (
        ({"jpg": picture, "mask": picture}, True),
        ({"one": picture, "two": picture}, False),
        ({}, False),
    ):
        path = tmp_path / f"{len(columns)}{found}.parquet"
        parquet.write_table(pa.table({**columns, "caption": ["a"]}), path)
        if found:
            np.testing.assert_array_equal(pixels(load_image(path / "0")), expected(files, 0))
        else:
            with pytest.raises(DataError, match="there are one, two|there is none"):
                archive_at(path)


@pytest.mark.parametrize("kind", NAMES)
def test_features_of_archives_are_extracted_as_those_of_files(request, files, tmp_path, kind):
    root, names = request.getfixturevalue(kind), NAMES[kind]

    def extract(root, names, stem, rows=None):
        dataset = ImageDataset(root, names, ImageTransform("clip", 8))

        def encode(pixels):
            if rows is not None and not rows:
                raise KeyboardInterrupt
            rows and rows.pop()
            return pixels.flatten(1)[:, ::24]

        extract_image_features(dataset, encode, tmp_path / stem, 8, "model", "0" * 64, batch_size=3)
        return np.load(tmp_path / f"{stem}.npy")

    expected = extract(files, [f"{row}.png" for row in range(PICTURES)], "files")
    with pytest.raises(KeyboardInterrupt):
        extract(root, names, "archives", [1])
    np.testing.assert_array_equal(extract(root, names, "archives"), expected)


def test_a_corpus_of_archives_is_that_of_files(run_here, shards, files, tmp_path):
    (tmp_path / "captions.jsonl").write_text(
        "".join(json.dumps({"image": f"{row}.png", "caption": CAPTIONS[row]}) + "\n" for row in range(PICTURES))
    )
    corpora = {}
    for name, captions, root in (("files", tmp_path / "captions.jsonl", files), ("tar", shards, shards)):
        options = ["--languages", "en", "--train", captions, "--test", captions, "--image-root", root, "--check-images"]
        with pytest.raises(SystemExit) as exit:
            run_here("mlvl-prepare", tmp_path / name, *options, "--compare-photos")
        assert exit.value.code == 0
        corpora[name] = [(tmp_path / name / f"captions/train.en.{end}").read_bytes() for end in ("txt", "rows.npy")]
    assert corpora["files"] == corpora["tar"]
    assert (tmp_path / "tar" / "images" / "train.txt").read_text().split() == NAMES["shards"]
