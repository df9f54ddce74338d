"""Names of images as paths: which spellings are one picture, which leave the folder, and the files behind them."""

import json
import unicodedata
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from mlvl_fairseq.data.captions import read_captions
from mlvl_fairseq.data.corpus.build import build_corpus
from mlvl_fairseq.data.feature_arrays import import_features
from mlvl_fairseq.data.image_names import ImageFolder, image_name, is_outside
from mlvl_fairseq.data.images.corpus_images import CorpusImages
from mlvl_fairseq.data.images.reading import ImageDataset
from mlvl_fairseq.data.images.transforms import ImageTransform
from mlvl_fairseq.errors import DataError

COMPOSED, DECOMPOSED = "caf\u00e9/z\u00fcge.png", "cafe\u0301/zu\u0308ge.png"


@pytest.mark.parametrize(
    "spelling, name",
    [
        ("x/a.png", "x/a.png"),
        ("./x/a.png", "x/a.png"),
        ("x//a.png", "x/a.png"),
        ("x/./a.png", "x/a.png"),
        ("x/y/../a.png", "x/a.png"),
        (r"x\a.png", "x/a.png"),
        (r".\x\\a.png", "x/a.png"),
        ("  x/a.png ", "x/a.png"),
        ("x/a.png/", "x/a.png"),
        ("X/A.png", "X/A.png"),
        (DECOMPOSED, COMPOSED),
        ("x/../../a.png", "../a.png"),
        ("//server/a.png", "/server/a.png"),
        (r"C:\x\a.png", "C:/x/a.png"),
        ("http://host//x/./a.png", "http://host//x/./a.png"),
        ("a b/ c.png", "a b/ c.png"),
        ("x/a.png#0", "x/a.png#0"),
        (".", ""),
        ("x/..", ""),
        (" ", ""),
    ],
)
def test_spellings(spelling, name):
    assert image_name(spelling) == name
    assert image_name(name) == name


def test_what_lies_below_the_root_is_named_from_there(tmp_path, monkeypatch):
    root = tmp_path / "pictures"
    root.mkdir()
    (tmp_path / "link").symlink_to(root)
    for given in (root, f"{root}/", tmp_path / "link"):
        for name in (f"{root}/x/a.png", f"{root}//x/./a.png", "x/a.png", "../pictures/x/a.png"):
            if given == tmp_path / "link" and name.startswith(".."):
                continue
            assert image_name(name, given) == "x/a.png"
    monkeypatch.chdir(tmp_path)
    assert image_name(f"{root}/a.png", "pictures") == image_name("../pictures/a.png", "pictures") == "a.png"
    assert image_name(str(root), root) == ""
    for name in (f"{root}er/a.png", "../other/a.png", "/a.png"):  # a folder whose name begins alike is another
        assert is_outside(image_name(name, root))


def test_files_are_found_whatever_their_spelling_on_the_disk(tmp_path):
    for name in (DECOMPOSED, r"win\b.png", "win/c.png", " d.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    folder = ImageFolder(tmp_path)
    spellings = [COMPOSED, DECOMPOSED, "win/b.png", r"win\b.png", "./win/c.png", "d.png", f"{tmp_path}/win/c.png"]
    names = [DECOMPOSED, DECOMPOSED, r"win\b.png", r"win\b.png", "win/c.png", " d.png", "win/c.png"]
    assert [folder.path(spelling) for spelling in spellings] == [str(tmp_path / name) for name in names]
    assert folder.missing(spellings).tolist() == []
    absent = ["win", "win/d.png", "Win/c.png", "win/c.png/x", "https://host/a.png", ""]
    assert folder.missing([*absent, "win/c.png"]).tolist() == [0, 1, 2, 3, 4, 5]
    assert folder.path("win/d.png") == str(tmp_path / "win/d.png")


def size_of(image):
    return torch.tensor([[[float(image.width), image.height]]] * 3)


def test_names_that_leave_the_root_are_refused(tmp_path):
    root = tmp_path / "pictures"
    root.mkdir()
    for place in (tmp_path / "secret.png", root / "own.png"):
        Image.new("RGB", (4, 4)).save(place)
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    outside = ["../secret.png", f"{tmp_path}/secret.png", "x/../../secret.png", r"..\secret.png"]
    transform, opened = ImageTransform("clip", 4), ImageFolder(root, allow_outside=True)
    for image in map(ImageDataset(root, outside, transform).__getitem__, range(4)):
        assert "is not below the image root" in image.problem and "--allow-outside-root" in image.problem
    for name in outside:
        with pytest.raises(DataError, match="is not below the image root"):
            ImageFolder(root).path(name)
    allowed = ImageDataset(root, [*outside, "link.png"], transform, allow_outside=True)
    assert [tuple(allowed[row].pixels.shape) for row in range(5)] == [(3, 4, 4)] * 5
    assert opened.missing(outside).tolist() == [] and opened.missing(["../none.png"]).tolist() == [0]
    assert ImageDataset(root, ["link.png"], transform)[0].problem is None  # its owner made the link


def captions_file(path, names):
    path.write_text(json.dumps([{"image": name, "caption": f"caption {row}"} for row, name in enumerate(names)]))
    return path


def test_captions_of_one_picture(tmp_path):
    path = captions_file(
        tmp_path / "en.json", ["a.png", "b.png", "./a.png", "a.png", "./a.png", r".\b.png", DECOMPOSED]
    )
    table = read_captions(path)
    assert table.images == ["a.png", "b.png", COMPOSED] and table.image_rows.tolist() == [0, 1, 0, 0, 0, 1, 2]
    assert table.problems.counts == {"image name in two spellings": 2}
    assert "'./a.png' and 'a.png' are one image" in table.problems.examples["image name in two spellings"][0]


def test_a_caption_file_cannot_name_what_is_outside(tmp_path):
    root = tmp_path / "pictures"
    root.mkdir()
    path = captions_file(tmp_path / "en.json", ["a.png", f"{root}/b.png", "../c.png"])
    with pytest.raises(DataError, match=r"en.json:3 field 'image': '\.\./c.png' is not below the image root"):
        read_captions(path, image_root=str(root))
    table = read_captions(path, image_root=str(root), allow_outside_root=True)
    assert table.images == ["a.png", "b.png", "../c.png"]
    assert read_captions(path).images == ["a.png", f"{root}/b.png", "../c.png"]  # the root is not known: nothing opens


def test_features_are_found_by_any_spelling(tmp_path):
    features = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.save(tmp_path / "f.npy", features)
    listed = tmp_path / "f.txt"
    listed.write_text(f"./b.png\n{DECOMPOSED}\n/data/x//a.png\n")
    wanted = [COMPOSED, "x/a.png", "b.png", unicodedata.normalize("NFD", COMPOSED)]
    found, bad = import_features(tmp_path / "f.npy", listed, wanted, image_root="/data")
    assert bad.tolist() == [] and found.tolist() == features[[1, 2, 0, 1]].tolist()
    listed.write_text("a.png\nb.png\n./a.png\n")
    with pytest.raises(DataError, match="f.txt:3: name 'a.png' is already in line 1"):
        import_features(tmp_path / "f.npy", listed, ["a.png"])


def test_a_corpus_cannot_name_what_is_outside(tmp_path):
    """As an earlier version, or somebody else, may have written it."""
    root = tmp_path / "pictures"
    root.mkdir()
    for place in (tmp_path / "b.png", root / "a.png"):
        Image.new("RGB", (4, 4)).save(place)
    table = read_captions(captions_file(tmp_path / "en.json", [f"{root}/a.png", "../b.png"]))
    corpus = build_corpus(tmp_path / "corpus", {"train": {"en": table}})
    transform = ImageTransform("clip", 4)
    with pytest.raises(DataError, match=r"images/train\.txt:2: '\.\./b.png' is not below the image root"):
        CorpusImages(corpus, "train", transform, str(root))
    images = CorpusImages(corpus, "train", transform, str(root), allow_outside=True)
    assert [tuple(images[row].shape) for row in range(2)] == [(3, 4, 4)] * 2


def test_a_corpus_of_an_earlier_version_goes_on_with_its_spellings(tmp_path):
    """Names were kept as they were spelled; a language is added all the same, and nothing that is there changes."""
    english = captions_file(tmp_path / "en.json", ["./a.png", "/data/b.png"])
    table = read_captions(english)
    corpus = build_corpus(tmp_path / "corpus", {"train": {"en": replace(table, images=["./a.png", "/data/b.png"])}})
    german = read_captions(captions_file(tmp_path / "de.json", ["a.png", r"\data\b.png", "c.png"]))
    more = build_corpus(corpus.folder, {"train": {"en": read_captions(english), "de": german}})
    assert more.images("train") == ["./a.png", "/data/b.png", "c.png"]
    assert more.rows("train", "de")[:, 0].tolist() == [0, 1, 2]
