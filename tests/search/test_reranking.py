"""A model with a fusion encoder puts the best pictures in order by its scores of pairs."""

import numpy as np
import pytest
from fusion_of_letters import fusion_of_letters

from mlvl_fairseq.networks.cclm import CclmNetwork
from mlvl_fairseq.search import reranking
from mlvl_fairseq.search.building import IndexOptions, update_index
from mlvl_fairseq.search.query import Query
from mlvl_fairseq.search.searcher import Searcher
from mlvl_fairseq.search.sources import source_of


@pytest.fixture(scope="module")
def fusion():
    return fusion_of_letters()


@pytest.fixture
def folder(fusion, photos, tmp_path):
    update_index(tmp_path / "fused", source_of(photos), fusion.encoder, IndexOptions())
    return tmp_path / "fused"


def test_the_best_are_put_in_order_by_the_fusion_encoder(fusion, folder, photos, monkeypatch):
    plain, searcher = Searcher(folder, fusion, rerank=0), Searcher(folder, fusion, rerank=5)
    assert (plain.reranks, searcher.reranks) == (0, 5)
    by_cosine = plain.search(Query("abc"), 8)
    assert by_cosine.matched is None
    paths = [photos / by_cosine.index.name(row) for row in by_cosine.rows]
    matches = fusion.match(["abc"], paths)[0]
    order = [*np.argsort(-matches[:5]).tolist(), 5, 6, 7]
    assert order != list(range(8))
    encoded, encode = [], CclmNetwork.encode_image
    monkeypatch.setattr(CclmNetwork, "encode_image", lambda self, x: encoded.append(len(x)) or encode(self, x))
    for _ in range(2):
        found = searcher.search(Query("abc"), 8)
        assert found.rows == [by_cosine.rows[place] for place in order]
        np.testing.assert_allclose(found.scores, [by_cosine.scores[place] for place in order])
        np.testing.assert_allclose(found.matched[:5], matches[order[:5]], atol=1e-5)
        assert found.matched[5:] == [None] * 3
    assert sum(encoded) == 5  # what was made of a picture is kept
    parts = [searcher.search(Query("abc"), 3, start) for start in (0, 3, 6)]
    assert [row for part in parts for row in part.rows] == found.rows  # pages neither repeat nor leave out
    for query in (Query("abc", ["d"]), Query("abc", like=1), Query(picture=paths[0])):
        assert searcher.search(query, 8).matched is None


def test_a_picture_that_is_gone_is_the_last_of_them(fusion, folder, photos, monkeypatch):
    monkeypatch.setattr(reranking, "MEMORY", 0)  # nothing is kept
    searcher = Searcher(folder, fusion, rerank=5)
    best = searcher.search(Query("abc"), 8)
    (photos / best.index.name(best.rows[0])).unlink()
    assert searcher.search(Query("abc"), 8).rows == [*best.rows[1:5], best.rows[0], *best.rows[5:]]
