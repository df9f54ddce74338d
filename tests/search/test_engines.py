"""Engines against scores in double precision, whatever is gone and however the vectors are stored."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mlvl_fairseq.errors import DataError
from mlvl_fairseq.search.engines import ENGINES, rank_exactly
from mlvl_fairseq.search.engines import exact as exhaustive
from mlvl_fairseq.search.engines import faiss_ivf as ivf

K, DIM = 10, 24


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def vectors():
    """float32 [2500, 24] in 40 clouds; some rows are equal, some nearly."""
    rng = np.random.default_rng(0)
    rows = unit(rng.standard_normal((40, DIM)))[rng.integers(0, 40, 2500)] + 0.1 * rng.standard_normal((2500, DIM))
    rows[100:110] = rows[100]
    rows[200:260] = rows[200] + 1e-6 * rng.standard_normal((60, DIM))
    return unit(rows).astype(np.float32)


@pytest.fixture(scope="module")
def queries(vectors):
    rng = np.random.default_rng(1)
    rows = np.concatenate([[100, 200, 7], rng.integers(0, 2500, 17)])
    return unit(vectors[rows] + 0.02 * rng.standard_normal((20, DIM))).astype(np.float32)


def best_rows(queries, vectors, gone=()):
    """By scores of rows rounded as `mlvl_fairseq.evaluation.metrics.nearest` says; of equal ones the smaller first."""
    grid = [np.rint(np.asarray(rows, np.float64) * 2**25) for rows in (queries, vectors)]
    scores = grid[0] @ grid[1].T
    scores[:, list(gone)] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :K].tolist()


def found(engine, index, queries, k=K):
    best = rank_exactly(index, queries, engine.candidates(queries, k), k)
    return [ranking.indices[0].tolist() for ranking in best]


@pytest.fixture(params=["exact", "faiss_half"])
def exact(request):
    if not ENGINES[request.param].installed():
        pytest.skip("needs the extra [search]: faiss-cpu")
    return ENGINES[request.param]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_exact_engines_find_the_best(exact, index_of, vectors, queries, dtype, monkeypatch):
    monkeypatch.setattr(exhaustive, "STEP", 300)  # the parts have 700 rows
    stored = vectors.astype(dtype)
    index = index_of(stored, gone=[7, *range(100, 105)])
    assert found(exact(index), index, queries) == best_rows(queries, stored, [7, *range(100, 105)])


def test_fewer_pictures_than_are_asked_for(exact, index_of, vectors, queries):
    index = index_of(vectors[:12], gone=range(4, 12))
    assert [sorted(rows) for rows in found(exact(index), index, queries)] == [[0, 1, 2, 3]] * 20
    index = index_of(vectors[:3], gone=range(3))
    assert found(exact(index), index, queries) == [[]] * 20


def test_what_is_asked_at_once_is_compared_in_one_pass(index_of, vectors, queries, monkeypatch):
    """Three ask while the first one is at work, which fails: each gets its own answer, of as many as it wants."""
    index, passes, go_on, scan = index_of(vectors), [], threading.Event(), exhaustive.scan

    def slow(index, asked, *rest):
        passes.append(len(asked))
        if len(passes) == 1:
            assert go_on.wait(30)
            raise OSError
        return scan(index, asked, *rest)

    monkeypatch.setattr(exhaustive, "scan", slow)
    engine = ENGINES["exact"](index)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(engine.candidates, queries[:1], K)
        while not passes:
            time.sleep(0.001)
        others = [pool.submit(found, engine, index, queries[n : 2 * n], k) for n, k in ((1, 2), (2, K), (4, 1))]
        while len(engine._waiting) < 3:
            time.sleep(0.001)
        go_on.set()
        with pytest.raises(OSError):
            first.result()
        expected = best_rows(queries, vectors)
        for one, (n, k) in zip(others, ((1, 2), (2, K), (4, 1))):
            assert one.result() == [rows[:k] for rows in expected[n : 2 * n]]
    assert passes == [1, 7]


def test_half_precision_asks_until_nothing_can_be_missed(index_of):
    """300 rows that half precision cannot tell apart, of which the best is not where faiss puts it."""
    pytest.importorskip("faiss", reason="needs the extra [search]: faiss-cpu")
    rng = np.random.default_rng(2)
    query = unit(rng.standard_normal((1, DIM))).astype(np.float32)
    near = unit(query + 1e-5 * rng.standard_normal((300, DIM))).astype(np.float32)
    index = index_of(np.concatenate([near, -near, -near]))
    engine = ENGINES["faiss_half"](index)
    assert found(engine, index, query, 1) == [best_rows(query, near)[0][:1]]
    assert len(engine.candidates(query, 1)[0]) >= 300


@pytest.fixture
def groups(monkeypatch):
    pytest.importorskip("faiss", reason="needs the extra [search]: faiss-cpu")
    monkeypatch.setattr(ivf, "PROBES", 8)
    return ENGINES["faiss_ivf"]


def test_groups_find_most_of_the_best_and_none_that_is_gone(groups, index_of, vectors, queries):
    index = index_of(vectors)
    groups.prepare(index)
    expected = best_rows(queries, vectors)
    shared = [len(set(a) & set(b)) for a, b in zip(found(groups(index), index, queries), expected)]
    assert np.mean(shared) > 0.9 * K
    gone = sorted({row for rows in expected for row in rows[:2]})
    index = index_of(vectors, gone)
    assert not {row for rows in found(groups(index), index, queries) for row in rows} & set(gone)


def test_pictures_that_came_after_the_groups_are_found(groups, index_of, vectors, queries):
    groups.prepare(index_of(vectors[:2000]))
    index = index_of(vectors)
    late = found(groups(index), index, queries)
    for rows, expected in zip(late, best_rows(queries, vectors)):
        newer = [row for row in expected if row >= 2000]
        assert [row for row in rows if row >= 2000][: len(newer)] == newer
    groups.prepare(index)
    assert groups(index)._faiss.ntotal == 2500


def test_groups_are_made_anew_when_there_are_many_more(groups, index_of, vectors):
    groups.prepare(index_of(vectors[:300]))
    few = groups(index_of(vectors[:300]))._faiss.nlist
    groups.prepare(index_of(vectors))
    assert groups(index_of(vectors))._faiss.nlist == ivf.groups_for(2500) > 2 * few


def test_adding_goes_on_after_an_interruption(groups, index_of, vectors, monkeypatch):
    monkeypatch.setattr(ivf, "SAVED_ROWS", 700)
    index, write = index_of(vectors), ivf._write

    def interrupted(path, faiss_index):
        write(path, faiss_index)
        if faiss_index.ntotal == 1400:
            raise KeyboardInterrupt

    monkeypatch.setattr(ivf, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        groups.prepare(index)
    added, blocks = [], type(index).blocks
    monkeypatch.setattr(type(index), "blocks", lambda self, start: added.append(start) or blocks(self, start))
    groups.prepare(index)
    assert added == [1400] and groups(index)._faiss.ntotal == 2500


def test_damaged_or_missing_groups_are_told(groups, index_of, vectors):
    index = index_of(vectors)
    with pytest.raises(DataError, match="run mlvl-search index again"):
        groups(index)
    groups.prepare(index)
    path = index.folder / "engines" / "faiss_ivf.index"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    for use in (groups, groups.prepare):
        with pytest.raises(DataError, match="damaged"):
            use(index)
