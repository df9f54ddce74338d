"""Winoground's official scores, and top-k retrieval, as evaluators: by hand, with signature and pictures left out."""

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest

from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.evaluation.evaluators import EVALUATORS, base
from mlvl_fairseq.evaluation.metrics.winoground import winoground_scores
from mlvl_fairseq.evaluation.signature import parse_signature

UP, RIGHT, SLANT = [0.0, 2.0], [3.0, 0.0], [1.0, 0.5]


def test_scores_are_the_three_definitions_of_every_order_of_scores():
    """All orders of the four scores: pictures are units, so that scores are what captions hold."""
    right = []
    cases = list(itertools.permutations((0.1, 0.2, 0.3, 0.4)))
    for c0i0, c0i1, c1i0, c1i1 in cases:
        text, image = c0i0 > c1i0 and c1i1 > c0i1, c0i0 > c0i1 and c1i1 > c1i0
        right.append((text, image, text and image))
    # The third column makes all captions unit vectors.
    captions = np.reshape(cases, (-1, 2, 2))
    captions = np.concatenate([captions, np.sqrt(1 - (captions**2).sum(-1, keepdims=True))], axis=-1)
    pictures = np.broadcast_to(np.eye(2, 3), captions.shape)
    for number, expected in enumerate(right):
        found = winoground_scores(5 * pictures[number : number + 1], captions[number : number + 1])
        assert list(found.values()) == [100.0 * part for part in expected], cases[number]
    found = winoground_scores(pictures, captions)
    assert found == pytest.approx(dict(zip(("text", "image", "group"), 100 * np.mean(right, axis=0))))
    drawn = np.random.default_rng(0).standard_normal((2, 50, 2, 9))
    same = np.repeat(drawn[0, :, :1], 2, axis=1)  # two pictures that are one: no caption is nearer to one of them
    assert winoground_scores(same, drawn[1])["image"] == 0 == winoground_scores(drawn[1], same)["text"]


LINES = [
    {"image_0": "up", "image_1": "right", "caption_0": "above", "caption_1": "beside"},  # both ways
    {"image_0": "up", "image_1": "slant", "caption_0": "above", "caption_1": "above and beside"},
    {"image_0": "up", "image_1": "right", "caption_0": "beside", "caption_1": "above"},  # none
]
PICTURES = {"up.png": UP, "right.png": RIGHT, "slant.png": SLANT}
TEXTS = {"above": UP, "beside": RIGHT, "above and beside": [0.9, 1.0]}


@pytest.fixture
def encoder():
    return SimpleNamespace(
        encode_texts=lambda captions, lang=None: np.array([TEXTS[caption] for caption in captions]),
        encode_features=np.asarray,
        max_length=30,
        tokenizer=SimpleNamespace(name="clip-bpe"),
    )


@pytest.fixture
def build(tmp_path):
    def evaluator(lines=LINES, pictures=PICTURES, name="winoground", **options):
        (tmp_path / "annotations.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        np.save(tmp_path / "pictures.npy", np.array(list(pictures.values()), np.float32))
        (tmp_path / "pictures.txt").write_text("".join(f"{picture}\n" for picture in pictures))
        files = {"image_features": str(tmp_path / "pictures.npy"), "image_list": str(tmp_path / "pictures.txt")}
        captions = {"captions": str(tmp_path / "annotations.jsonl"), "lang": ["en"]}
        kind = EVALUATORS[name]
        return kind(kind.Options(**{**files, **captions, **options}))

    return evaluator


def test_a_file_is_scored(build, encoder):
    evaluator = build()
    data = evaluator.read()
    scores = base.evaluate(evaluator, encoder, data)["en"]
    signature = parse_signature(scores.pop("signature"))
    # The second line: the slanted picture is nearest to its caption, the upright one to "above"; but the caption "above
    # and beside" (42 degrees from upright) is nearer to the slanted picture (63 degrees), so that all is right.
    assert scores == pytest.approx({"text": 200 / 3, "image": 200 / 3, "group": 200 / 3})
    assert {key: signature[key] for key in ("images", "texts", "examples", "lang", "split", "maxlen")} == {
        "images": "3", "texts": "6", "examples": "3", "lang": "en", "split": "test", "maxlen": "30",
    }  # fmt: skip
    assert signature["data"] == evaluator.fingerprint(data["en"]) and "transform" not in signature


def test_lines_with_a_bad_caption_or_a_bad_picture_are_left_out(build, encoder, caplog):
    lines = [*LINES, {**LINES[0], "caption_1": " "}, {"image_0": "up"}]
    evaluator = build(lines, {**PICTURES, "slant.png": [0.0, 0.0]}, bad_image="skip")
    scores = base.evaluate(evaluator, encoder, evaluator.read())["en"]
    assert scores["group"] == 50 and scores["left_out"] == {"images": ["slant.png"], "texts": 2}
    assert "|images:2|texts:4|" in scores["signature"] and "|examples:2|" in scores["signature"]
    assert "1 lines of which one caption cannot be used are left out" in caplog.text
    with pytest.raises(DataError, match="annotations.jsonl:4 field 'caption': is empty"):
        build(lines, on_problem="error").read()
    with pytest.raises(UserError, match="none of its 1 examples has two pictures"):
        evaluator = build(LINES[1:2], {**PICTURES, "slant.png": [0.0, 0.0]}, bad_image="skip")
        base.evaluate(evaluator, encoder, evaluator.read())
    with pytest.raises(UserError, match="of no line both captions can be used"):
        build(lines[3:4]).read()


def test_as_plain_retrieval_with_the_best_candidates_only(build, encoder):
    """Three pictures, six captions; the three that are equal to others come last first with --top-k."""
    found = {}
    for k in (0, 2):
        evaluator = build(name="retrieval", top_k=k)
        found[k] = base.evaluate(evaluator, encoder, evaluator.read())["en"]
    assert "|ties:index|version" in found[0]["signature"] and "|ties:last|top:2|version" in found[2]["signature"]
    assert build(name="retrieval").settings() == {
        k: v for k, v in build(name="retrieval", top_k=2).settings().items() if k != "top_k"
    }
    # "above" stands three times (up, up, right) and "beside" twice (right, up): the last ones are found first.
    assert (found[0]["txt_r1"], found[2]["txt_r1"]) == pytest.approx((100, 100 / 3))
    with pytest.raises(UserError, match="--top-k 2 does not go with --recall deduplicated"):
        build(name="retrieval", top_k=2, recall="deduplicated")
