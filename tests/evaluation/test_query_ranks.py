"""Ranks survive being written and read; broken files are refused."""

import numpy as np
import pytest
from run_folders import random_ranks

from mlvl_fairseq.errors import DataError
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks, ranks_path


@pytest.fixture
def ranks():
    return random_ranks(np.random.default_rng(0), 20, skill=0.3)


def test_written_and_read(ranks, tmp_path):
    ranks.save(tmp_path / "de.test.ranks.npz")
    read = QueryRanks.load(tmp_path / "de.test.ranks.npz")
    for name, array in vars(ranks).items():
        np.testing.assert_array_equal(getattr(read, name), array)
        assert getattr(read, name).dtype == np.int32
    assert read.same_queries(ranks) and [path.name for path in tmp_path.iterdir()] == ["de.test.ranks.npz"]


def test_the_same_ranks_are_the_same_bytes(ranks, tmp_path):
    for name in "ab":
        ranks.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_place():
    assert str(ranks_path("scores/01-de/en.test.json")) == "scores/01-de/en.test.ranks.npz"


def test_other_captions_are_other_queries(ranks):
    moved = QueryRanks(ranks.images, np.roll(ranks.text_to_image, 1), ranks.image_ranks, ranks.text_ranks)
    other = QueryRanks(ranks.images + 1, ranks.text_to_image, ranks.image_ranks, ranks.text_ranks)
    assert not ranks.same_queries(moved) and not ranks.same_queries(other)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no zip",
        {"images": np.arange(2)},
        {"text_ranks": np.zeros(3)},
        {"text_to_image": np.array([0, 9])},
        {"image_ranks": np.zeros(3, dtype=np.int32)},
        {"text_ranks": np.array([{}, {}], dtype=object)},
    ],
)
def test_broken_files(tmp_path, content):
    path = tmp_path / "de.test.ranks.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        whole = dict.fromkeys(("images", "text_to_image", "image_ranks", "text_ranks"), np.zeros(2, dtype=np.int32))
        np.savez(path, **(content if "images" in content else {**whole, **content}), allow_pickle=True)
    with pytest.raises(DataError, match="delete it and its score, evaluate again"):
        QueryRanks.load(path)
