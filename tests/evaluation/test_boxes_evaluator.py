"""Boxes as an evaluator: overlap by counting pixels, and every text beside its own picture."""

import base64
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.evaluation.evaluators import EVALUATORS, base
from mlvl_fairseq.evaluation.metrics.boxes import box_scores, intersection_over_union
from mlvl_fairseq.evaluation.signature import parse_signature
from mlvl_fairseq.inference.encoder import Encoder, pad_right
from mlvl_fairseq.modules.towers.bert import BertConfig
from mlvl_fairseq.modules.towers.swin import SwinConfig
from mlvl_fairseq.networks.cclm import CclmNetwork

SIZE = (60, 30)  # of the pictures; the tower takes 32 x 32


def centre(x, y, width, height):
    return [x + width / 2, y + height / 2, width, height]


def pixels(box):
    x, y, width, height = box
    grid = np.zeros((20, 20), bool)
    grid[y : y + height, x : x + width] = True
    return grid


def test_overlap_is_that_of_counted_pixels():
    drawn = np.random.default_rng(0)
    boxes = np.stack([np.r_[at, drawn.integers(1, 21 - at)] for at in drawn.integers(0, 16, (400, 2))])
    one, other = boxes[:200], boxes[200:]
    counted = np.array([(pixels(a) & pixels(b)).sum() / (pixels(a) | pixels(b)).sum() for a, b in zip(one, other)])
    found = intersection_over_union(*([centre(*box) for box in part] for part in (one, other)))
    assert np.abs(found - counted).max() < 1e-12 and (counted == 0).any() and (counted > 0.5).any()


def test_scores():
    true = np.array([[0.5, 0.5, 1.0, 1.0]] * 4)
    found = np.array([[0.5, 0.5, 1, 1], [0.5, 0.25, 1, 0.5], [0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0, 0]])
    assert box_scores(found, true) == {"iou": pytest.approx(100 * 1.75 / 4), "above_50": 25.0}  # a half is not more
    assert box_scores(0 * true, 0 * true) == {"iou": 0.0, "above_50": 0.0}


# ---- a file --------------------------------------------------------------------------------------------------------

ELEMENTS = [
    {"bb": [0, 0, 30, 30], "caption": {"en": "a", "de": "b"}, "attributes": {"en": "c"}},
    {"bb": [30, 15, 15, 15], "caption": [{"en": "d"}, {"en": "a c", "de": "c"}]},
    {"bb": [50, 20, 20, 20], "caption": {"en": "b"}},  # only half of its width and height is inside
]


def record(image, elements=ELEMENTS):
    return {"image": image, "caption": {"en": "d"}, "elems": elements}


@pytest.fixture
def build(tmp_path):
    generator = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for name in ("one.png", "two.png"):
        Image.fromarray(generator.integers(0, 256, (*SIZE[::-1], 3), np.uint8)).save(tmp_path / "images" / name)

    def evaluator(records=None, **options):
        records = [record("one.png"), record("two.png", ELEMENTS[:2])] if records is None else records
        (tmp_path / "regions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in records))
        given = {"regions": str(tmp_path / "regions.jsonl"), "lang": ["en"], "image_root": str(tmp_path / "images")}
        boxes = EVALUATORS["boxes"]
        return boxes(boxes.Options(**{**given, **options}))

    return evaluator


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    image = SwinConfig(image_size=32, width=4, layers=(1, 1), heads=(1, 2), window=4)
    text = BertConfig(vocab_size=10, width=8, layers=1, heads=2, ffn_width=16, max_positions=9)
    network = CclmNetwork(image.build(), text.build(), 8, fusion_layers=2, transform="clip").eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    tokenizer = SimpleNamespace(pad=0, name="letters", of_language=lambda lang: tokenizer)
    tokenizer.tokenize = lambda texts, longest: [[1, *("  abcd".index(each) for each in t.split()), 9] for t in texts]
    return Encoder(network, tokenizer, "sha", [], "tiny.pt")


ASKED = {  # of each picture's elements; the box's corners cut to the picture
    "en": [("c a", (0, 0, 30, 30)), ("d", (30, 15, 15, 15)), ("a c", (30, 15, 15, 15)), ("b", (50, 20, 10, 10))],
    "de": [("b", (0, 0, 30, 30)), ("c", (30, 15, 15, 15))],
}


def expected(encoder, folder, lang):
    """A text at a time, beside the picture as PIL makes it."""
    found, true = [], []
    for name in ("one.png", "two.png"):
        with Image.open(folder / "images" / name) as picture:
            seen = encoder.preprocess(picture.resize((32, 32), Image.Resampling.BICUBIC))
        for text, (x, y, width, height) in ASKED[lang][: 4 if name == "one.png" else 3]:
            with torch.no_grad():
                image = encoder.network.encode_image(seen[None])
                states = encoder.network.encode_text(*pad_right(encoder.tokenize([text]), 0))
                fused = encoder.network.fuse(states, encoder.network.image_keys_values(image))
                found.append(encoder.network.bbox_head(fused[:, 0]).sigmoid()[0].numpy())
            true.append(centre(x / 60, y / 30, width / 60, height / 30))
    return box_scores(np.array(found), np.array(true)), np.array(found)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_text_is_asked_beside_its_own_picture(build, encoder, tmp_path, batch_size, caplog):
    evaluator = build(lang=["en", "de"], batch_size=batch_size)
    scores = base.evaluate(evaluator, encoder, evaluator.read())
    for lang, texts in (("en", 7), ("de", 4)):
        wanted, boxes = expected(encoder, tmp_path, lang)
        assert boxes.std(0).min() > 1e-3, "texts and pictures make no difference"
        signature = parse_signature(scores[lang]["signature"])
        assert {name: scores[lang][name] for name in wanted} == pytest.approx(wanted, abs=1e-3)
        assert (signature["images"], signature["texts"], signature["lang"]) == ("2", str(texts), lang)
    assert scores["en"]["iou"] != scores["de"]["iou"]
    assert "1 of 5 boxes have no text in 'de'" in caplog.text


def test_pictures_may_be_within_the_lines(build, encoder, tmp_path):
    evaluator = build()
    scores = base.evaluate(evaluator, encoder, evaluator.read())["en"]
    rows = []
    for name, elements in (("one.png", ELEMENTS), ("two.png", ELEMENTS[:2])):
        content = base64.b64encode((tmp_path / "images" / name).read_bytes()).decode()
        rows.append({"binary": content, "elems": elements})
    evaluator = build(rows, image_root="")
    assert base.evaluate(evaluator, encoder, evaluator.read())["en"] == scores


def test_attributes_can_be_left_out(build, encoder):
    evaluator = build(no_attributes=True)
    data = evaluator.read()
    assert [region.text for region in data["en"].regions] == ["a", "d", "a c", "b", "a", "d", "a c"]
    signature = parse_signature(base.evaluate(evaluator, encoder, data)["en"]["signature"])
    assert signature["attributes"] == "none"
    other = build().read()["en"]
    assert evaluator.fingerprint(other) != signature["data"]


def test_pictures_that_cannot_be_read_are_left_out_or_an_error(build, encoder, tmp_path):
    (tmp_path / "images" / "two.png").write_bytes(b"no picture")
    evaluator = build(bad_image="skip")
    scores = base.evaluate(evaluator, encoder, evaluator.read())["en"]
    assert scores["left_out"] == {"images": [f"{tmp_path}/regions.jsonl:2"], "texts": 3}
    evaluator = build()
    with pytest.raises(DataError, match="regions.jsonl:2.*two.png.*--bad-image skip"):
        base.evaluate(evaluator, encoder, evaluator.read())


@pytest.mark.parametrize(
    "elements, message",
    [
        ([{"bb": [0, 0, 3], "caption": {"en": "a"}}], r"regions.jsonl:1 field 'elems\[0\].bb'.*is not \[x, y, width"),
        ([{"bb": [60, 0, 3, 3], "caption": {"en": "a"}}], r"regions.jsonl:1 .*\[60, 0, 3, 3\] is outside its picture"),
        ([{"bb": [0, 0, 0, 3], "caption": {"en": "a"}}], "outside its picture of 60 x 30, or empty"),
        ({"bb": 1}, "field 'elems'.*is no list"),
    ],
)
def test_boxes_that_are_none(build, encoder, elements, message):
    evaluator = build([record("one.png", elements)])
    with pytest.raises(DataError, match=message):
        base.evaluate(evaluator, encoder, evaluator.read())


def test_a_language_or_a_model_without_boxes(build, encoder):
    with pytest.raises(UserError, match="no box has a text in 'fr'"):
        build(lang=["fr"]).read()
    image, text = encoder.network.visual_encoder, encoder.network.text_encoder
    without = CclmNetwork(image, text, 8, fusion_layers=1, heads="matching", transform="lilt").eval()
    evaluator = build()
    with pytest.raises(UserError, match="tiny.pt: this kind of model has no head for boxes"):
        base.evaluate(evaluator, Encoder(without, encoder.tokenizer, "sha", [], "tiny.pt"), evaluator.read())
