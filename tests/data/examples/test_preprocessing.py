"""MaRVL's lists and WIT's pictures, as the published code prepares them (``fixtures/golden_cclm_preprocessing.json``),
and without what is wrong there."""

import base64
import json

import pytest
from golden import load_golden
from published_examples import write_lines

from mlvl_fairseq.data.captions import read_captions
from mlvl_fairseq.data.captions.wit import add_pixels, embed_pixels, picture_name
from mlvl_fairseq.data.examples.marvl_lists import write_marvl_lists
from mlvl_fairseq.errors import DataError, UserError

GOLDEN = load_golden("cclm_preprocessing")
KEYS = ("image_url", "caption_reference_description", "language")
TABLE = "u2\tQUJD\nu1\tREVG\nu9\tR0hJ\n"


def marvl(left, right, label):
    shared = {"concept": "39-Panci", "language": "id", "caption": "x y", "id": "id-0"}
    return [{**shared, "left_img": left, "right_img": right, "label": label}]


def test_lists_of_marvl(tmp_path):
    paths = [
        write_lines(tmp_path / "marvl-id.jsonl", marvl("39-0.jpg", "39-11.jpg", True)),
        write_lines(tmp_path / "marvl-id_train10x2.jsonl", marvl("39-Panci/39-n-5.jpg", "39-n-2.jpg", False)),
    ]
    written = write_marvl_lists(paths, tmp_path / "out")
    assert {path.name: json.loads(path.read_text()) for path in written} == GOLDEN["marvl"]
    with pytest.raises(UserError, match="two of the annotation files have one name"):
        write_marvl_lists([paths[0], paths[0]], tmp_path / "out")


def lists(folder, rows):
    return write_lines(folder / "test_ar.jsonl", [dict(zip(KEYS, row)) for row in rows])


def test_pixels_within_lists_as_published(tmp_path):
    (tmp_path / "pixels.csv").write_text(TABLE)
    path = lists(tmp_path, [("u1", "c1", "ar"), ("u2", "c2", "ar"), ("u1", "c3", "ar"), ("u3", "c4", "ar")])
    result = embed_pixels([path], [tmp_path / "pixels.csv"], tmp_path / "out")
    rows = [json.loads(line) for line in result.files[0].read_text().splitlines()]
    assert rows == GOLDEN["wit_test"]["test_ar.jsonl"]
    assert (result.lines, result.without, result.images, result.other_scheme) == (3, 1, 2, 0)


def test_pictures_beside_lists(tmp_path):
    """In the lists' order; from tables, and from lists that have them."""
    (tmp_path / "pixels").mkdir()
    (tmp_path / "pixels" / "a.csv").write_text(TABLE + "u4\tno base64\n")
    rows = [("u1", "c1", "ar"), ("u2", "c2", "ar"), ("u1", "c3", "ar"), ("u3", "", "ar"), ("u4", "c", "ar")]
    path, out = lists(tmp_path, rows), tmp_path / "out"
    result = add_pixels([path], [tmp_path / "pixels"], out)
    assert (result.lines, result.without, result.images, result.damaged) == (3, 2, 2, 1)
    kept = [json.loads(line) for line in (out / "test_ar.jsonl").read_text().splitlines()]
    assert [tuple(row[key] for key in KEYS) for row in kept] == rows[:3]
    assert (out / picture_name("u2")).read_bytes() == b"ABC" and (out / picture_name("u1")).read_bytes() == b"DEF"
    table = read_captions(out / "test_ar.jsonl", image_root=str(out), check_images=True, lang="ar")
    assert table.captions == ["c1", "c2", "c3"] and table.image_rows.tolist() == [0, 1, 0]
    assert table.images == [picture_name("u1"), picture_name("u2")]
    embedded = embed_pixels([path], [tmp_path / "pixels"], tmp_path / "embedded").files
    again = add_pixels(embedded, [], tmp_path / "again")
    assert again.images == 2 and (tmp_path / "again" / picture_name("u1")).read_bytes() == b"DEF"
    with pytest.raises(UserError, match="say with --pixels where the tables of pictures are"):
        add_pixels([path], [], tmp_path / "again")
    with pytest.raises(UserError, match="is read: choose another folder"):
        add_pixels([path], [tmp_path / "pixels"], tmp_path)


def test_http_and_https(tmp_path):
    """A picture under the other scheme is taken where there is none under the one, and counted."""
    content = {name: base64.b64encode(name.encode()).decode() for name in ("secure", "plain", "only")}
    (tmp_path / "p").write_text(
        f"https://a/1\t{content['secure']}\nhttp://a/1\t{content['plain']}\nhttps://a/2\t{content['only']}\n"
        f"http://a/1\t{content['only']}\n"
    )
    path = lists(tmp_path, [("http://a/1", "c", "ar"), ("http://a/2", "d", "ar"), ("http://a/3", "e", "ar")])
    result = add_pixels([path], [tmp_path / "p"], tmp_path / "out")
    assert (result.images, result.other_scheme, result.without) == (2, 1, 1)
    assert (tmp_path / "out" / picture_name("http://a/1")).read_bytes() == b"plain"
    assert (tmp_path / "out" / picture_name("http://a/2")).read_bytes() == b"only"
    exact = add_pixels([path], [tmp_path / "p"], tmp_path / "exact", exact_urls=True)
    assert (exact.images, exact.other_scheme, exact.without) == (1, 0, 2)
    assert "1 images by the other of http and https" in result.summary()


def test_damaged_lists_and_tables(tmp_path):
    path = lists(tmp_path, [("u1", "c1", "ar")])
    (tmp_path / "p").write_text("u1 without a tab\n")
    with pytest.raises(DataError, match=r"p:1: is no row of a URL and base64"):
        add_pixels([path], [tmp_path / "p"], tmp_path / "out")
    (tmp_path / "p").write_text("u7\tQUJD\n")
    with pytest.raises(DataError, match="none of its 1 images is in the tables of pixels"):
        add_pixels([path], [tmp_path / "p"], tmp_path / "out")
    path.write_text('{"image_url": 3}\n')
    with pytest.raises(DataError, match=r"test_ar.jsonl:1 field 'image_url': is missing, or no string"):
        add_pixels([path], [tmp_path / "p"], tmp_path / "out")


def test_captions_of_wit(tmp_path):
    """Lines of one URL are captions of one image; what has no text is left out; "." is a caption."""
    rows = [("u2", "c2", "ar"), ("u1", ".", "ar"), ("u1", "c3", "ar"), ("u1", "", "ar"), ("u3", None, "ar")]
    table = read_captions(lists(tmp_path, rows))
    golden = GOLDEN["wit_eval"]
    assert table.images == golden["images"] and table.captions == ["c2", ".", "c3"]
    assert {str(row): int(image) for row, image in enumerate(table.image_rows)} == golden["txt2img"]
    assert table.problems.counts == {"empty caption": 2}


def test_captions_of_xflickrco(tmp_path):
    """An image that has none but empty captions is left out and counted once, as German and Indonesian have one."""
    rows = [
        {"sentences": ["a b", "c"], "id": "1", "img_path": "1.jpg"},
        {"sentences": [""], "id": "2", "img_path": "2.jpg"},
        {"sentences": ["d", " "], "id": "3", "img_path": "COCO_val2014_3.jpg"},
    ]
    table = read_captions(write_lines(tmp_path / "a.jsonl", rows))
    golden = GOLDEN["xflickrco_eval"]
    assert (table.captions, table.images) == (golden["text"], golden["images"])
    assert {str(row): int(image) for row, image in enumerate(table.image_rows)} == golden["txt2img"]
    assert table.problems.counts == {"image without caption": 1, "empty caption": 1}
    assert table.problems.left_out == 2


def test_pictures_of_xflickrco_are_in_the_folders_of_two_data_sets(tmp_path):
    names = {
        "17.jpg": "flickr30k-images/17.jpg",
        "COCO_val2014_000000000003.jpg": "coco/images/val2014/COCO_val2014_000000000003.jpg",
    }
    for place in names.values():
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).touch()
    rows = [{"sentences": ["a dog"], "id": "1", "img_path": name} for name in names]
    path = write_lines(tmp_path / "a.jsonl", rows)
    assert read_captions(path, image_root=str(tmp_path)).images == list(names.values())
