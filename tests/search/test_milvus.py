"""Milvus Lite, the embedded database that has the interface of a distributed Milvus."""

import numpy as np
import pytest

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.search.engines import agreement
from mlvl_fairseq.search.engines import milvus as database

pytest.importorskip("pymilvus", reason="needs the extra [milvus]")
pytest.importorskip("milvus_lite", reason="needs the extra [milvus]")


@pytest.fixture(scope="module")
def vectors():
    rows = np.random.default_rng(0).standard_normal((900, 16)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def index(index_of, monkeypatch):
    monkeypatch.setattr(database, "BLOCK", 250)
    monkeypatch.setattr(database, "BATCH", 60)

    def index(vectors, gone=()):
        opened = index_of(vectors, gone)
        opened.manifest.id = "0123"
        return opened

    return index


def nearest(engine, query):
    rows = engine.candidates(query[None], 5)[0]
    return set(rows[np.argsort(-(engine.index.vectors(rows) @ query))[:5]].tolist())


def test_it_finds_the_best_and_follows_the_index(index, vectors, tmp_path):
    uri, query = str(tmp_path / "own" / "file.db"), vectors[7]
    best = np.argsort(-(vectors @ query))
    with pytest.raises(UserError, match="does not hold this index yet"):
        database.MilvusEngine(index(vectors), uri)
    assert database.MilvusEngine.prepare(index(vectors[:500]), uri)
    engine = database.MilvusEngine(index(vectors[:500]), uri)
    assert nearest(engine, query) == set(best[best < 500][:5].tolist()) and agreement(engine) == 1
    now = index(vectors, gone=best[:2])
    assert database.MilvusEngine.prepare(now, uri)
    engine = database.MilvusEngine(now, uri)
    assert nearest(engine, query) == set(best[2:7].tolist()) and agreement(engine) == 1
    assert engine._client.query("mlvl_0123", output_fields=["count(*)"])[0]["count(*)"] == 898
    assert not database.MilvusEngine.prepare(now, uri)


def test_an_upload_goes_on_after_an_interruption(index, vectors, tmp_path, monkeypatch):
    from pymilvus import MilvusClient

    sent, upsert = [], MilvusClient.upsert

    def counting(self, name, rows, **options):
        if len(sent) == 310:
            sent.append(None)
            raise KeyboardInterrupt
        sent.extend(row["row"] for row in rows)
        return upsert(self, name, rows, **options)

    monkeypatch.setattr(MilvusClient, "upsert", counting)
    for _ in range(2):
        try:
            database.MilvusEngine.prepare(index(vectors), str(tmp_path / "a.db"))
        except KeyboardInterrupt:
            pass
    assert sent == [*range(310), None, *range(310, 900)]


def test_what_cannot_be_reached_is_one_line(index, vectors, tmp_path):
    with pytest.raises(UserError, match="give a file that ends in .db"):
        database.MilvusEngine.prepare(index(vectors), str(tmp_path / "a.txt"))
