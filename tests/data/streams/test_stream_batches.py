"""Records to batches; what of them cannot be used is told by whoever trains."""

import pickle

import numpy as np
import pytest
import torch
from stream_parts import GOLDEN, kind, picture, write_lines

from mlvl_fairseq.data.images.augmentation import Augmentation
from mlvl_fairseq.data.streams import Records, Stream, StreamsDataset
from mlvl_fairseq.data.streams.order import places
from mlvl_fairseq.data.streams.policy import BadRecords, RecordOptions
from mlvl_fairseq.errors import DataError, UserError


def elements(number, of=""):
    return [{"bb": [i, 2, 30, 20], "caption": {"en": f"▁a {of}", "de": f"▁th e {i}"}} for i in range(number)]


@pytest.fixture
def made(pieces, tmp_path):
    """``made(name, rows, of_a_batch)``: a data set of a stream with these records."""

    def make(name, rows, size=4, form="fixed", pad=1, **given):
        path = write_lines(tmp_path / f"{name}.jsonl", rows)
        stream = Stream(kind(name, pieces, form, **given), 3, Records(str(path), f"--{name}"), size)
        return StreamsDataset([stream], pad, 7, form)

    return make


def batch(data, records, epoch=1):
    found = data.collater([data[place] for place in places(epoch, 3, np.array(records))])
    for name in found.get("net_input", ()):
        if name.endswith("tokens"):
            lengths = found["net_input"][name.replace("tokens", "lengths")]
            assert isinstance(lengths, np.ndarray), "a trainer would move it to a GPU"
            assert lengths.tolist() == (found["net_input"][name] != 1).sum(1).tolist()
    return found


IMAGES = [{"binary": picture(seed=i), "caption": {"en": "▁a", "de": "▁th e e e"[: 4 + i]}} for i in range(4)]


def test_a_batch_of_images(made):
    data = made("image_text", [*IMAGES, IMAGES[0]])
    found = batch(data, [0, 1, 4])
    given = found["net_input"]
    assert (found["stream"], found["nsentences"], found["problems"]) == ("image", 3, [])
    assert given["images"].shape == (3, 3, 64, 64) and given["tokens"].shape[0] == 3
    ends = given["eos_positions"]
    assert (given["tokens"].gather(1, ends[:, None]) == 2).all() and found["ntokens"] == int((ends + 1).sum())
    assert all((row[end + 1 :] == 1).all() for row, end in zip(given["tokens"], ends.tolist()))
    told = found["masked_ids"] != -100
    rows = torch.arange(3)[:, None].expand_as(told)[told]
    assert (given["tokens"][rows, given["masked_positions"][told]] == found["masked_ids"][told]).all()
    assert (given["masked_positions"][~told] == 0).all()
    assert given["ids"].dtype == torch.int64 and given["ids"][0] == given["ids"][2] != given["ids"][1]
    assert not {"view_tokens", "second_tokens", "image_of", "patches"} & given.keys()
    published = batch(made("image_text", [*IMAGES, IMAGES[0]], form="reference"), [0, 1, 4])
    assert len(published["net_input"]["ids"].unique()) == 3


def test_a_batch_of_two_captions(made):
    given = batch(made("image_text", IMAGES, two_captions=True), [0, 1])["net_input"]
    assert given["second_tokens"].shape[0] == given["second_eos_positions"].shape[0] == 2


def test_a_batch_of_text(made):
    pairs = [{"source_text": "▁a ▁do g", "target_text": "▁th e"} for _ in range(3)]
    found = batch(made("parallel_text", pairs), [0, 1, 2])
    given = found["net_input"]
    assert found["stream"] == "text" and "images" not in given
    assert given["masked_tokens"].shape == given["view_tokens"].shape
    told = found["masked_ids"] != -100
    rows = torch.arange(3)[:, None].expand_as(told)[told]
    assert (given["view_tokens"][rows, given["masked_positions"][told]] == found["masked_ids"][told]).all()


def test_a_batch_of_sentences_masked_as_one(made):
    pairs = [{"source_text": "▁a ▁do g", "target_text": text} for text in ("▁th e", "e", "▁a")]
    found = batch(made("parallel_text", pairs, tlm=True), [0, 1, 2])
    given = found["net_input"]
    ends = given["masked_eos_positions"]
    assert ends.tolist() == [7, 6, 6] == (given["eos_positions"] + given["view_eos_positions"]).tolist()
    assert given["masked_tokens"].shape == (3, 8) and (given["masked_tokens"][1:, 7] == 1).all()


REGIONS = [{"binary": picture(seed=i), "caption": "▁a", "elems": elements(2 + 2 * i)} for i in range(2)]
SHARED = ("image_of", "tokens", "masked_tokens", "masked_positions", "ids", "patches")


def test_a_batch_of_regions(made):
    found = batch(made("regions", REGIONS, 8), [0, 1])
    given = found["net_input"]
    assert given["image_of"].tolist() == [0, 0, 0, 1, 1, 1, 1, 1] and given["images"].shape == (2, 3, 64, 64)
    assert found["whole"].tolist() == [True, False, False, True, False, False, False, False]
    assert found["boxes"].shape == (8, 4) and found["boxes"].dtype == torch.float32
    assert given["patches"].shape == (8, 4) and given["patches"].dtype == torch.bool
    assert {len(given[name]) for name in SHARED} == {8} and found["masked_ids"].shape[0] == 8
    over = [{**REGIONS[0], "elems": [{"bb": [90, 50, 20, 20], "caption": "▁a"}]}]
    assert (found["clipped_boxes"], batch(made("regions", over * 3), [0, 1])["clipped_boxes"]) == (0, 2)


def test_golden_region_batches(made):
    """Too few rows: some come twice as published; too many: some are left out."""
    golden = GOLDEN["region_collate"]["pad"]
    rows = [{**REGIONS[i], "elems": elements(2)} for i in range(2)]
    published = batch(made("regions", rows, golden["batch"], "reference"), [0, 1])
    assert (golden["n_elems"], published["absent_rows"]) == (6, 2)
    assert published["net_input"]["image_of"].tolist()[:6] == [0, 0, 0, 1, 1, 1]
    assert published["nsentences"] == golden["batch"] == len(published["net_input"]["ids"].unique())
    assert list(published["net_input"]["patches"].shape) == [golden["batch"], 4]
    fixed = batch(made("regions", rows, golden["batch"]), [0, 1])
    assert (fixed["nsentences"], fixed["absent_rows"], fixed["unused_rows"]) == (6, 2, 0)
    few = GOLDEN["region_collate"]["sample"]
    for form in ("fixed", "reference"):
        sampled = batch(made("regions", rows, few["batch"], form), [0, 1])
        assert (sampled["nsentences"], sampled["unused_rows"]) == (few["n"], 3)


def test_images_of_which_no_row_is_taken_are_not_encoded(made):
    rows = [{**REGIONS[0], "binary": picture(seed=i), "elems": elements(1)} for i in range(4)]
    given = batch(made("regions", rows, 2), [0, 1, 2, 3])["net_input"]
    assert len(given["images"]) == len(given["image_of"].unique()) <= 2
    assert given["image_of"].tolist() == sorted(given["image_of"].tolist())


def same(one, other):
    return all(
        same(value, other[key])
        if isinstance(value, dict)
        else torch.equal(value, other[key])
        if isinstance(value, torch.Tensor)
        else np.array_equal(value, other[key])
        if isinstance(value, np.ndarray)
        else value == other[key]
        for key, value in one.items()
    )


def test_a_batch_depends_on_seed_epoch_and_records_alone(made):
    def drawn(seed=7, epoch=1, warm=()):
        data = made("regions", REGIONS, 4, augmentation=Augmentation())
        data.seed = seed
        for record in warm:
            data[int(places(2, 3, record))]
        return batch(data, [0, 1], epoch)

    assert same(drawn(), drawn(warm=[1, 0, 1]))
    assert not same(drawn(), drawn(seed=8)) and not same(drawn(), drawn(epoch=2))


def test_what_cannot_be_used_is_left_out_and_told(made, tmp_path):
    data = made("image_text", [IMAGES[0], {"binary": "AAA", "caption": "▁a"}, {"binary": picture()}])
    found = pickle.loads(pickle.dumps(batch(data, [0, 1, 2])))  # as it comes from a worker
    assert found["nsentences"] == 1 and found["net_input"]["tokens"].shape[0] == 1
    assert [problem.partition(" field")[0] for problem in found["problems"]] == [
        f"{tmp_path}/image_text.jsonl:2",
        f"{tmp_path}/image_text.jsonl:3",
    ]


def test_a_batch_of_nothing_still_says_why(made):
    found = batch(made("image_text", [{"caption": "▁a"}]), [0])
    assert found["nsentences"] == 0 and "net_input" not in found and len(found["problems"]) == 1


def test_policies(caplog):
    bad = BadRecords(RecordOptions(bad_record="skip", max_bad_records=2))
    bad.tell(["a.jsonl:1: x", "a.jsonl:2: y", "a.jsonl:1: x"])
    assert "bad record 2 (2 are allowed): a.jsonl:2: y" in caplog.text and len(bad.known) == 2
    with pytest.raises(DataError, match="a.jsonl:3: z .bad record 3; --max-bad-records allows 2"):
        bad.tell(["a.jsonl:3: z"])
    with pytest.raises(DataError, match="a.jsonl:1: x .--bad-record skip goes on"):
        BadRecords(RecordOptions()).tell(["a.jsonl:1: x"])
    with pytest.raises(UserError, match="--bad-record never"):
        BadRecords(RecordOptions(bad_record="never"))
