"""What a record gives to a batch: texts, masks, boxes, patches; golden numbers of the published code among them."""

import base64
import json
from collections import Counter

import numpy as np
import pytest
import torch
from stream_parts import GOLDEN, Least, kind, options, picture, tools

from mlvl_fairseq.data.images.augmentation import Augmentation
from mlvl_fairseq.data.streams.boxes import Box, Cut, covered, draw_cut, visible, within
from mlvl_fairseq.data.streams.records import Record
from mlvl_fairseq.data.streams.sides import tells_sides, tells_sides_as_published
from mlvl_fairseq.data.text.cleaning import cclm, cclm_question, first_words
from mlvl_fairseq.errors import DataError

CAPTIONS = {"de": "der hund", "en": "the dog"}
ELEMENTS = [  # of a picture of 100 x 60; in it the golden numbers come from the first one's crop, 50 x 54
    {"bb": [10, 9, 40, 45], "caption": {"de": "mann", "en": "man"}, "attributes": {"de": "rot", "en": "red"}},
    {"bb": [0, 0, 12, 12], "caption": {"de": "gras", "en": "grass"}},
]
TRAINING = Augmentation(form="none")


def record(**fields):
    return Record({"binary": picture(), "caption": CAPTIONS, **fields}, None, "a.jsonl", 7)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kept", [30, 4, 3])
@pytest.mark.parametrize("clean, name", [(cclm, "pre_caption"), (cclm_question, "pre_question")])
def test_golden_cleaning(clean, name, kept):
    golden = GOLDEN["text"].get(f"{name}_{kept}", {})
    assert {text: first_words(clean(text), kept) for text in golden} == golden


@pytest.mark.parametrize("text", GOLDEN["preprocess"])
def test_golden_ids_and_masks(pieces, text):
    """Ids of 40 tokens at most, and how many of them are masked."""
    golden, tool = GOLDEN["preprocess"][text], tools(pieces, tokenized=True, mask_special=True)
    ids = tool.texts.ids(" ".join(golden["pieces"]), 40, record(), "caption")
    masked = tool.mask(ids, rng())
    assert ids == golden["ids"] and len(masked.positions) == golden["masks"]
    assert (len(pieces), tool.masking.mask) == (GOLDEN["tokenizer"]["vocab"], GOLDEN["tokenizer"]["mask"])


def test_words_are_cut_after_cleaning(pieces):
    tool = tools(pieces, cleaning="cclm", max_words=3)
    tool.texts.ids("  A dog, on-the   field", 40, record(), "caption")
    assert pieces.given == ["a dog on"]


@pytest.mark.parametrize("text", ["", "...", "  "])
def test_a_text_of_which_nothing_is_left(pieces, text):
    with pytest.raises(DataError, match="a.jsonl:7 field 'caption': nothing is left of the text"):
        tools(pieces, cleaning="cclm").texts.ids(text, 40, record(), "caption")


def test_every_caption_and_language_is_drawn_equally_often(pieces):
    value = [{"en": "a", "de": "b"}, {"en": "c", "de": "d"}]
    draw, texts, given = rng(), tools(pieces).texts, record()
    counts = Counter(texts.choose(value, draw, given, "caption").text for _ in range(2000))
    assert counts.keys() == {"a", "b", "c", "d"} and min(counts.values()) > 430


def test_golden_two_captions(pieces):
    """Ordered pairs of two of three languages, each as likely: 3000 draws within 4 standard deviations of 500."""
    draw, texts, given = rng(), tools(pieces).texts, record()
    pairs = (texts.choose_two([{"d": "D", "e": "E", "z": "Z"}], draw, given, "caption") for _ in range(3000))
    counts = Counter("-".join(caption.text for caption in pair) for pair in pairs)
    assert counts.keys() == GOLDEN["two_captions"].keys() and sum(GOLDEN["two_captions"].values()) == 3000
    assert all(abs(count - 500) < 4 * 20.4 for count in counts.values())


@pytest.mark.parametrize("form, found", [("fixed", "der hund"), ("reference", None)])
def test_chosen_languages(pieces, form, found):
    texts = tools(pieces, form, languages="de,cs").texts
    if found:
        assert texts.choose(CAPTIONS, rng(), record(), "caption") == ("de", found)
        return
    with pytest.raises(DataError, match="has no text in de and cs; it has de, en"):
        texts.choose(CAPTIONS, rng(), record(), "caption")


@pytest.mark.parametrize("value", [3, [], [[]], {"en": 1}, {}])
def test_captions_that_are_none(pieces, value):
    with pytest.raises(DataError, match="a.jsonl:7 field 'caption': "):
        tools(pieces).texts.choose(value, rng(), record(), "caption")


def test_image_and_one_of_its_captions(pieces):
    item = kind("image_text", pieces).item(record(), Least(0.3))
    (row,) = item.rows
    assert pieces.given == ["der hund"] and item.image.shape == (3, 64, 64) and not item.problems
    assert row.view is None and row.box is None and row.second is None
    whole = np.array(row.tokens)
    whole[row.masked.positions] = row.masked.labels
    assert whole.tolist() == row.tokens and row.masked.tokens.tolist() != row.tokens


def test_two_captions_of_an_image(pieces):
    item = kind("image_text", pieces, two_captions=True).item(record(), Least())
    assert pieces.given == ["der hund", "the dog"] and item.rows[0].second is not None
    with pytest.raises(DataError, match="--two-captions needs two"):
        kind("image_text", pieces, two_captions=True).item(record(caption={"de": "hund"}), Least())


@pytest.mark.parametrize("described", ["ein hund", ["ein hund", "ein tier"]])
def test_monolingual_images(pieces, described):
    item = kind("monolingual", pieces).item(record(desc=described), Least())
    assert pieces.given == ["ein hund"] and len(item.rows) == 1 and item.image is not None


@pytest.mark.parametrize("chance, view, other", [(0.9, "a", "b"), (0.1, "b", "a")])
def test_one_sentence_of_a_pair_is_the_view_and_masked(pieces, chance, view, other):
    pair = Record({"source_text": "▁a ▁do g", "target_text": "▁th e"}, None, "a.jsonl", 1)
    texts = {"a": "▁a ▁do g", "b": "▁th e"}
    (row,) = kind("parallel_text", pieces).item(pair, Least(chance)).rows
    assert pieces.given == [texts[view], texts[other]] and len(row.masked.tokens) == len(row.view) != len(row.tokens)
    swapped = Record({"source_text": "▁th e", "target_text": "▁a ▁do g"}, None, "a.jsonl", 2)
    assert kind("parallel_text", pieces).item(swapped, Least(chance)).rows[0].identity == row.identity


def test_sentences_have_their_own_length_and_number_of_masks(pieces):
    long = " ".join(["▁do"] * 100)
    given = {"text_max_length": 60, "text_max_masks": 20, "max_length": 40, "max_masks": 12}
    pair = Record({"source_text": long, "target_text": long}, None, "a.jsonl", 1)
    (row,) = kind("parallel_text", pieces, **given).item(pair, rng()).rows
    assert len(row.tokens) == len(row.view) == 60 and len(row.masked.positions) == 20


def test_golden_two_sentences_as_one(pieces):
    """The published ids are the first 14 of 19."""
    golden = GOLDEN["tlm"]["ids"]
    view, other = golden[1:8], [*golden[9:], 51, 51, 51, 51]
    sentences = [" ".join(pieces.dictionary[i] for i in sentence) for sentence in (view, other)]
    pair = Record(dict(zip(("source_text", "target_text"), sentences)), None, "a.jsonl", 1)
    (row,) = kind("parallel_text", pieces, tlm=True, text_max_masks=51).item(pair, Least()).rows
    masked = row.masked
    whole = masked.tokens.copy()
    whole[masked.positions] = masked.labels
    assert whole.tolist() == [*golden, 51, 51, 51, 51, 2] and len(whole) == GOLDEN["tlm"]["n_real"]
    assert row.view == [0, *view, 2] and row.tokens == [0, *other, 2] and len(masked.positions) == 8  # 19 * 0.4


@pytest.mark.parametrize("case", GOLDEN["patches"])
def test_golden_patches(case):
    sizes, box = case.split(" box ")
    size, patch = map(int, sizes.split("/"))
    found = covered(json.loads(box), patch, size // patch)
    assert [0, *(1 + found.nonzero().flatten()).tolist()] == GOLDEN["patches"][case]


@pytest.mark.parametrize("name, chance, switch", [("noflip", 0.9, True), ("flip", 0.1, False)])
def test_golden_regions(pieces, name, chance, switch):
    golden = GOLDEN["regions"][f"region_crop_min_{name}"]
    regions = kind("regions", pieces, "reference", augmentation=TRAINING, code_switch=switch)
    item = regions.item(record(elems=ELEMENTS), Least(chance))
    assert pieces.given == golden["captions_fed"] and not item.problems
    assert [row.whole for row in item.rows] == [bool(whole) for whole in golden["is_image"]]
    atts = [[1, *row.patches.int().tolist()] for row in item.rows]
    assert atts == golden["image_atts"]
    torch.testing.assert_close(torch.tensor([row.box for row in item.rows]), torch.tensor(golden["target_bbox"]))


def test_attributes_are_whole_words_unless_as_published(pieces):
    regions = kind("regions", pieces, augmentation=TRAINING, code_switch=True)
    regions.item(record(elems=ELEMENTS), Least())
    assert pieces.given == ["der hund", "rot mann", "gras"]


def test_an_attribute_is_in_its_captions_language(pieces):
    element = {**ELEMENTS[0], "caption": {"cs": "muž"}}
    kind("regions", pieces).item(record(elems=[element], caption=None), Least())
    assert pieces.given == ["muž"]


def test_what_is_shown_is_the_crop(pieces):
    """The pixels of a region are those of the crop that its boxes are shares of."""
    regions, full = kind("regions", pieces, augmentation=TRAINING), kind("regions", pieces)
    given = record(elems=ELEMENTS)
    crop = regions.item(given, Least()).image
    image = regions.tools.pictures.of(given).content
    whole = full.item(given, Least()).image
    assert torch.equal(crop, regions.tools.transform(image.crop((0, 0, 50, 54))))
    assert torch.equal(whole, regions.tools.transform(image))
    mirrored = regions.item(given, Least(0.1)).image
    assert torch.equal(mirrored, crop.flip(2))


@pytest.mark.parametrize("form, flipped", [("fixed", False), ("reference", True)])
def test_captions_that_tell_sides_keep_their_pictures(pieces, form, flipped):
    elements = [{**ELEMENTS[0], "caption": {"de": "mann", "en": "man on the left"}}]
    given = record(elems=elements)
    shown = [
        kind("regions", pieces, form, augmentation=TRAINING).item(given, Least(chance)).image for chance in (0.1, 0.9)
    ]
    assert torch.equal(shown[0], shown[1]) != flipped


@pytest.mark.parametrize("form, flipped", [("fixed", False), ("reference", True)])
def test_so_do_those_of_whole_images(pieces, form, flipped):
    given = record(caption={"en": "the left one", "de": "der linke"})
    whole = Augmentation((1.0, 1.0), form="none")
    stream = kind("image_text", pieces, form, augmentation=whole)
    stream.tools.augmentation = Augmentation((1.0, 1.0), 1.0, "none")
    mirrored = stream.item(given, rng()).image
    stream.tools.augmentation = Augmentation((1.0, 1.0), 0.0, "none")
    assert torch.equal(mirrored, stream.item(given, rng()).image) != flipped


def test_golden_sides_as_published():
    published = [tells_sides_as_published([caption]) for caption in ({"en": "on the left"}, "on the left")]
    assert published == GOLDEN["careful_hflip"] and not tells_sides_as_published([5])


@pytest.mark.parametrize("text, found", [("a Left one", True), ("leftover", False), ("links", False)])
def test_words_of_sides(text, found):
    assert tells_sides([[{"en": text}]], options()) is found
    assert tells_sides([text], options(side_words="left, links")) is (found or text == "links")
    assert not tells_sides([text], options(side_words=""))


def test_a_cut_shows_its_box_whole():
    draw, box = rng(), Box(10.5, 9, 40.2, 45)
    cuts = [draw_cut(box, (100, 60), draw) for _ in range(500)]
    assert all(visible(box, cut, 64)[0] == pytest.approx(1) for cut in cuts)
    assert {cut.left for cut in cuts} == set(range(11)) and {cut.right for cut in cuts} == set(range(51, 101))
    assert {cut.top for cut in cuts} == set(range(10)) and {cut.bottom for cut in cuts} == set(range(54, 61))


def test_visible_share():
    cut = Cut(10, 0, 30, 40)
    assert visible(Box(0, 0, 20, 40), cut, 80) == (0.5, Box(0, 0, 40, 80))
    assert visible(Box(0, 0, 20, 40), cut._replace(mirrored=True), 80) == (0.5, Box(40, 0, 40, 80))
    assert visible(Box(0, 0, 10, 40), cut, 80) == (0.0, None)


def test_boxes_over_the_edge_are_cut():
    assert within(Box(-5, 10, 20, 100), 100, 60) == Box(0, 10, 15, 50)
    assert within(Box(100, 0, 5, 5), 100, 60) is None and within(Box(5, 5, 0, 5), 100, 60) is None


def test_boxes_over_the_edge_are_counted(pieces):
    boxes = [[80.5, 0, 19.5, 60], [90, 0, 10.5, 5], [0, -1, 5, 5], [0, 55, 5, 6], [200, 0, 5, 5]]
    item = kind("regions", pieces).item(record(elems=[{"bb": bb, "caption": "a"} for bb in boxes]), rng())
    assert item.clipped_boxes == 3 and len(item.problems) == 1


@pytest.mark.parametrize("edge", [10**400, True, None, "5"])
def test_boxes_that_are_no_numbers(pieces, edge):
    given = record(elems=[{"bb": [0.5, 0, edge, 5], "caption": "a"}])
    item = kind("regions", pieces).item(given, rng())
    assert len(item.rows) == 1 and "'elems[0].bb': is not [x, y, width, height]" in item.problems[0]


@pytest.mark.parametrize("attributes", [7, [7], {"": 7}, [["rot"]]])
@pytest.mark.parametrize("switch", [False, True])
def test_attributes_that_are_none(pieces, attributes, switch):
    given = record(elems=[{"bb": [0, 0, 5, 5], "caption": "a", "attributes": attributes}])
    item = kind("regions", pieces, code_switch=switch).item(given, rng())
    assert len(item.rows) == 1 and "a.jsonl:7 field 'elems[0].attributes': is no text" in item.problems[0]


def test_of_a_box_at_the_limit_too_little_is_seen(pieces):
    """A share of exactly the limit is too little, as published."""
    elements = [{"bb": [0, 0, 10, 10], "caption": "a"}, {"bb": [5, 0, 10, 10], "caption": "b"}]
    stream = kind("regions", pieces, augmentation=TRAINING, region_visible=0.5)
    stream.item(record(elems=elements, caption=None), Least())
    assert pieces.given == ["a"]


def test_no_more_rows_than_asked_for(pieces):
    elements = [{"bb": [i, i, 20, 20], "caption": f"{i}"} for i in range(8)]
    item = kind("regions", pieces, max_regions=5).item(record(elems=elements), rng())
    assert len(item.rows) == 5 and item.rows[0].whole and not any(row.whole for row in item.rows[1:])
    other = kind("regions", pieces, max_regions=5).item(record(elems=elements), rng(1))
    assert {row.identity for row in item.rows} != {row.identity for row in other.rows}


def test_equal_boxes_are_one_thing(pieces):
    box, other = [1, 2, 30, 30], [1, 2, 30, 31]
    elements = [{"bb": bb, "caption": "a"} for bb in (box, other, box, [0, 0, 100, 60])]
    rows = kind("regions", pieces).item(record(elems=elements), Least()).rows
    whole, first, second, third, all_of_it = (row.identity for row in rows)
    assert first == third and whole == all_of_it and len({whole, first, second}) == 3
    elsewhere = kind("regions", pieces).item(record(elems=elements, binary=picture(seed=1)), Least()).rows
    assert not {row.identity for row in elsewhere} & {row.identity for row in rows}


def test_elements_that_cannot_be_used_are_told_and_the_others_taken(pieces):
    elements = [
        {"bb": [200, 0, 5, 5], "caption": "a"},
        {"bb": "no", "caption": "a"},
        {"bb": [0, 0, 9, 9]},
        {"bb": [0, 0, 9, 9], "caption": ""},
        {"bb": [0, 0, 9, 9], "caption": "b"},
    ]
    item = kind("regions", pieces).item(record(elems=elements, caption=None), Least())
    assert len(item.rows) == 1 and len(item.problems) == 4
    place = "a.jsonl:7 field 'elems[0].bb'"
    assert item.problems[0] == f"{place}: [200, 0, 5, 5] is outside its picture of 100 x 60, or empty"
    assert "elems[2].caption': is missing" in item.problems[2]


def test_an_image_without_boxes_is_its_whole(pieces):
    (row,) = kind("regions", pieces, augmentation=TRAINING).item(record(), Least()).rows
    assert row.whole and row.patches.all()
    with pytest.raises(DataError, match="a.jsonl:7 field 'elems': has no caption and no box"):
        kind("regions", pieces).item(record(caption=None, elems=[]), Least())


@pytest.mark.parametrize(
    "binary, message",
    [
        (picture()[:-5], "field 'binary': is no base64"),
        (picture()[:40] + "?" + picture()[40:], "field 'binary': is no base64"),
        (
            base64.b64encode(base64.b64decode(picture())[:900]).decode(),
            "field 'binary': .* cannot be decoded",
        ),
        (None, "field 'binary': is missing"),
        (5, "field 'binary': is no text"),
    ],
)
def test_pictures_that_cannot_be_read(pieces, binary, message):
    with pytest.raises(DataError, match=f"a.jsonl:7 {message}"):
        kind("image_text", pieces).item(record(binary=binary), Least())


def test_pictures_by_name(pieces, tmp_path):
    (tmp_path / "a.png").write_bytes(base64.b64decode(picture()))
    named = Record({"image": "a.png", "caption": "a"}, None, "a.jsonl", 7)
    by_name = kind("image_text", pieces, image_root=str(tmp_path)).item(named, Least())
    assert torch.equal(by_name.image, kind("image_text", pieces).item(record(), Least()).image)
    absent = Record({"image": "b.png", "caption": "a"}, None, "a.jsonl", 7)
    with pytest.raises(DataError, match="a.jsonl:7 field 'image': .*b.png: no such image"):
        kind("image_text", pieces, image_root=str(tmp_path)).item(absent, Least())
    with pytest.raises(DataError, match="a.jsonl:7 field 'image': names a picture: say with --image-root where"):
        kind("image_text", pieces).item(named, Least())
    beside = Record({"caption": "a"}, base64.b64decode(picture()), "000.tar", 1)
    assert torch.equal(kind("image_text", pieces).item(beside, Least()).image, by_name.image)


def test_given_features_stand_for_pictures(pieces, tmp_path):
    grids = rng().normal(size=(3, 4, 6)).astype(np.float16)
    np.save(tmp_path / "grids.npy", grids)
    (tmp_path / "grids.txt").write_text("a.png\nb/c.png\nd.png\n")
    given = {"image_features": str(tmp_path / "grids.npy")}
    stream = kind("image_text", pieces, **given)
    assert stream.tools.pictures.shape == (4, 6)
    for fields, row in (({"row": 2}, 2), ({"image": "b//c.png"}, 1)):
        item = stream.item(Record({**fields, "caption": "a"}, None, "a.jsonl", 7), Least())
        assert torch.equal(item.image, torch.tensor(grids[row], dtype=torch.float32))
    for fields, message in (({"row": 3}, "field 'row': is no row of the 3"), ({"image": "x"}, "'x' is not in")):
        with pytest.raises(DataError, match=message):
            stream.item(Record({**fields, "caption": "a"}, None, "a.jsonl", 7), Least())
    sized = Record({"row": 0, "width": 100, "height": 60, "caption": "a", "elems": ELEMENTS}, None, "a.jsonl", 7)
    rows = kind("regions", pieces, **given).item(sized, Least()).rows
    assert rows[2].patches.tolist() == [True, False, False, False]
    assert rows[2].box == pytest.approx((0.06, 0.1, 0.12, 0.2))
    with pytest.raises(DataError, match="'width' and 'height'"):
        kind("regions", pieces, **given).item(Record({"row": 0, "elems": ELEMENTS}, None, "a.jsonl", 7), Least())


def test_features_of_another_kind_are_one_line(pieces, tmp_path):
    np.save(tmp_path / "flat.npy", np.zeros((3, 4), np.float32))
    with pytest.raises(DataError, match="flat.npy: is float32 .3, 4., not .*positions, dims.*of pictures of one size"):
        kind("image_text", pieces, image_features=str(tmp_path / "flat.npy"))
