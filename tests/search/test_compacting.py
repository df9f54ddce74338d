"""Compaction: the room of what is gone comes back, numbers and results stay, whoever searches or kills meanwhile."""

import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from drawn_photos import NAMES, draw

from mlvl_fairseq.arrays import write_array
from mlvl_fairseq.data.features import FeatureWriter
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import write_text
from mlvl_fairseq.search import compacting, folder
from mlvl_fairseq.search.building import Changes, prepare_engine
from mlvl_fairseq.search.compacting import Compacted, compact
from mlvl_fairseq.search.engines import ENGINES, rank_exactly
from mlvl_fairseq.search.folder import GONE, TAKEN_OUT, names_path, open_index, part_folder
from mlvl_fairseq.search.manifest import IndexManifest, PartEntry, SourceEntry, read_manifest, write_manifest
from mlvl_fairseq.search.marks import take_out, write_marks
from mlvl_fairseq.search.query import Query
from mlvl_fairseq.search.searcher import Searcher

DIM, SIZES = 8, [5, 3, 1, 6, 2, 4]  # of parts, of two sources in turn
GONE_ROWS = [0, 3, 8, 9, 10, 11, 12, 13, 14, 20]  # all of two parts among them
BAD, OUT = 4, 16


def add_part(where, manifest, vectors, source):
    """The manifest with a part of vectors, named by its pictures' numbers."""
    entry = PartEntry(folder.next_part(manifest), source, len(vectors))
    own = part_folder(where, entry.name)
    own.mkdir(parents=True)
    names = [f"{number}.jpg" for number in range(manifest.rows, manifest.rows + len(vectors))]
    write_text(names_path(own), "".join(f"{name}\n" for name in names))
    write_array(own / "stamps.npy", np.stack([np.arange(len(names)), manifest.rows + np.arange(len(names))], 1))
    with FeatureWriter(own / "vectors", names, DIM, "none", "0" * 64) as writer:
        writer.write(vectors, bad=[place for place in range(len(names)) if manifest.rows + place == BAD])
    return write_manifest(where, IndexManifest(**{**vars(manifest), "parts": [*manifest.parts, entry]}))


def draw_vectors(count):
    rows = np.random.default_rng(count).standard_normal((count, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """The folder of an index of 21 vectors in six parts, ten of which are gone."""
    monkeypatch.setattr(compacting, "JOINED_ROWS", 7)
    monkeypatch.setattr(compacting, "SAVED_BYTES", 1)
    where, vectors = tmp_path / "stored", draw_vectors(sum(SIZES))
    sources = [SourceEntry("folder", f"/{name}") for name in "ab"]
    manifest, start = IndexManifest("none", "0" * 64, DIM, "float32", sources=sources, id="1"), 0
    for number, size in enumerate(SIZES):
        manifest = add_part(where, manifest, vectors[start : start + size], number % 2)
        start += size
    marks = np.zeros(start, np.uint8)
    marks[GONE_ROWS], marks[OUT] = GONE, TAKEN_OUT
    write_marks(where, manifest, marks)
    return where


def content(where):
    """Of an index, what can be said of each picture by its number, and how many rows are stored."""
    index = open_index(where)
    rows = np.flatnonzero(index.live).tolist()
    said = {}
    for row, vector in zip(rows, index.vectors(rows).tolist()):
        part, place = index.part_of(row)
        said[row] = index.name(row), vector, part.source_of(place), part.stamps[place].tolist()
    return said, index.marks.tolist(), index.bound


def files(where):
    return {str(path.relative_to(where)) for path in where.rglob("*") if path.is_file() and path.name != ".lock"}


def test_numbers_and_all_that_is_known_of_pictures_stay(stored):
    before, vectors = content(stored), draw_vectors(sum(SIZES))
    assert list(before[0]) == [row for row in range(21) if row not in [*GONE_ROWS, BAD, OUT]]
    done = compact(stored)
    assert done[:3] == Compacted(10, 6, 2, 0)[:3] and done.freed > 0
    assert content(stored) == before
    index = open_index(stored)
    assert [part.numbers.tolist() for part in index.parts] == [[1, 2, 4, 5, 6, 7], [15, 16, 17, 18, 19]]
    np.testing.assert_array_equal(index.vectors([17, 1]), vectors[[17, 1]])
    assert compact(stored) == Compacted(0, 2, 2, 0)
    assert content(stored) == before and read_manifest(stored).generation == index.manifest.generation
    with pytest.raises(DataError, match="has no picture 3"):
        index.name(3)


def test_small_parts_are_joined_to_what_was_joined_before_and_numbers_are_not_used_again(stored):
    compact(stored)
    manifest = add_part(stored, read_manifest(stored), draw_vectors(2), 0)
    assert open_index(stored).parts[-1].numbers.tolist() == [21, 22]  # 20 was the last one, and is gone
    before = content(stored)
    assert compact(stored)[:3] == (0, 3, 2) and content(stored) == before
    write_marks(stored, read_manifest(stored), np.full(manifest.rows, GONE, np.uint8))
    assert compact(stored)[:3] == (13, 2, 0) and open_index(stored).pictures == 0
    add_part(stored, read_manifest(stored), draw_vectors(1), 1)
    assert list(content(stored)[0]) == [23]


def in_child(work):
    """The exit status of a forked process that does some work."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_an_end_at_any_moment_costs_nothing(stored, tmp_path, monkeypatch):
    """The process ends without a word before each folder that compaction makes or removes, and before each rename."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # the machine does not end
    before = content(stored)
    shutil.copytree(stored, tmp_path / "whole")
    compact(tmp_path / "whole")
    expected, ended, step = files(tmp_path / "whole"), 9, 0
    while ended == 9:
        copy = tmp_path / f"copy{step}"
        shutil.copytree(stored, copy)

        def killed():
            steps = iter(range(step))

            def before_a_change(event, _):
                if event in ("os.mkdir", "os.rename", "os.rmdir") and next(steps, None) is None:
                    os._exit(9)

            sys.addaudithook(before_a_change)
            compact(copy)
            os._exit(0)

        ended = in_child(killed)
        assert content(copy) == before
        compact(copy)
        assert content(copy) == before
        assert len(files(copy)) == len(expected)
        step += 1
    assert ended == 0 and step > 20


def test_a_full_disk_leaves_the_index_as_it_was(stored, monkeypatch):
    before, there = content(stored), files(stored)

    def full(*_, **__):
        raise DataError("no room")

    monkeypatch.setattr(compacting.FeatureWriter, "write", full)
    with pytest.raises(DataError, match="no room"):
        compact(stored)
    assert content(stored) == before and files(stored) == there


def test_damage_is_told_and_not_written_again(stored):
    path = stored / "parts" / "000000" / "vectors.npy"
    damaged = bytearray(path.read_bytes())
    damaged[-40] ^= 1
    path.write_bytes(damaged)
    there = files(stored)
    with pytest.raises(DataError, match="is damaged"):
        compact(stored)
    assert files(stored) == there


@pytest.mark.parametrize("work", [compact, lambda where: take_out(where, ["*"])], ids=["compact", "take_out"])
def test_a_folder_that_is_no_index_stays_as_it_is(tmp_path, work):
    (tmp_path / "a.png").write_bytes(b"")
    for where in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match="is no index"):
            work(where)
    assert [path.name for path in tmp_path.rglob("*")] == ["a.png"]


def test_damaged_numbers_are_told(stored):
    compact(stored)
    path = next(stored.glob("parts/*/rows.npy"))
    damaged = bytearray(path.read_bytes())
    damaged[-20] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="rows.npy: is truncated or damaged"):
        open_index(stored)


@pytest.mark.parametrize("name", ["exact", "faiss_half", "faiss_ivf"])
def test_engines_find_the_same_before_and_after(name, stored):
    if not ENGINES[name].installed():
        pytest.skip("needs the extra [search]: faiss-cpu")
    queries = draw_vectors(9)

    def found():
        engine = prepare_engine(stored, name)
        best = rank_exactly(engine.index, queries, engine.candidates(queries, 5), 5)
        return [(one.indices.tolist(), one.scores.tolist()) for one in best], engine

    before, old = found()
    compact(stored)
    newest = ENGINES[name](open_index(stored))  # not brought up to date
    best = rank_exactly(newest.index, queries, newest.candidates(queries, 5), 5)
    assert [(one.indices.tolist(), one.scores.tolist()) for one in best] == before
    after, engine = found()
    assert after == before and not type(engine).prepare(engine.index)
    assert len(rank_exactly(old.index, queries, old.candidates(queries, 5), 5)[0].indices[0]) == 5
    if name == "faiss_ivf":
        assert engine._faiss.ntotal == 11
    add_part(stored, read_manifest(stored), queries[:1], 1)
    for prepare in (False, True):
        engine = prepare_engine(stored, name) if prepare else ENGINES[name](open_index(stored))
        assert rank_exactly(engine.index, queries, engine.candidates(queries, 5), 5)[0].indices[0, 0] == 21


def test_an_index_goes_on_where_it_was_interrupted(photos, update, index, encoded):
    """What mlvl-search index has begun is not taken for something left over."""
    (photos / "b.jpg").unlink()
    update(index, photos)
    for seed, name in enumerate(("new.png", "y.png", "z.png")):
        draw(photos / name, 20 + seed)
    encoded.stop_at = 3  # after two, which are a batch
    with pytest.raises(KeyboardInterrupt):
        update(index, photos)
    compact(index)
    encoded.stop_at = None
    assert update(index, photos) == Changes(added=3, same=7)
    assert {open_index(index).name(row) for row in (8, 9, 10)} == {"new.png", "y.png", "z.png"}
    assert encoded.pictures == 3


def test_it_is_brought_up_to_date_after_compaction(index, photos, update, monkeypatch):
    for name in ("a.png", "sub/f.png"):
        (photos / name).unlink()
    update(index, photos)
    take_out(index, ["c.png"])
    assert compact(index)[:3] == (2, 1, 1)
    assert update(index, photos) == Changes(same=6)
    draw(photos / "a.png", 0)
    draw(photos / "d.png", 50)
    assert update(index, photos) == Changes(added=1, changed=1, same=5)
    opened = open_index(index)
    assert sorted(opened.name(row) for row in (8, 9)) == ["a.png", "d.png"]
    assert take_out(index, ["c.png"], back=True) == 1 and open_index(index).name(NAMES.index("c.png")) == "c.png"


@pytest.fixture
def searcher(index, photos, update, model):
    """Of an index that compaction changes."""
    (photos / "a.png").unlink()
    update(index, photos)
    return Searcher(index, model)


def once(work):
    """A function that does it the first time only."""
    todo = [work]
    return lambda: todo and todo.pop()()


def test_a_search_that_began_before_ends_well(searcher, monkeypatch):
    """Files of the state that is searched are gone before names were read."""
    expected, state = Searcher(searcher.folder, searcher.model).search(Query("dogs"), 7), searcher._state
    compacts, candidates = once(lambda: compact(searcher.folder)), state.engine.candidates
    monkeypatch.setattr(state.engine, "candidates", lambda *asked: (candidates(*asked), compacts())[0])
    found = searcher.search(Query("dogs"), 7)
    assert (found.rows, found.names, found.scores) == (expected.rows, expected.names, expected.scores)
    assert found.index.manifest.generation > state.index.manifest.generation


def test_a_picture_that_is_asked_for_meanwhile_is_given(searcher, monkeypatch):
    compacts, part_of = once(lambda: compact(searcher.folder)), folder.Index.part_of
    monkeypatch.setattr(folder.Index, "part_of", lambda self, row: (part_of(self, row), compacts())[0])
    assert searcher.source_and_name(1)[1] == "b.jpg"


def test_an_index_that_is_opened_meanwhile_is_the_newest(searcher, monkeypatch):
    compacts, open_part = once(lambda: compact(searcher.folder)), folder.open_part
    monkeypatch.setattr(folder, "open_part", lambda *asked: (compacts(), open_part(*asked))[1])
    assert open_index(searcher.folder).name(1) == "b.jpg"
    shutil.rmtree(searcher.folder / "parts")
    with pytest.raises(DataError):
        open_index(searcher.folder)


def test_many_search_while_it_is_compacted_again_and_again(searcher, photos, update):
    query, done = Query(like=1), []

    def search(_):
        while not done:
            found = searcher.search(query, 7)
            names = [NAMES[row] if row < 7 else "sub/h.png" for row in found.rows]
            assert found.names == names and {2, 3, 4, 5, 6} < set(found.rows)
            assert searcher.source_and_name(1)[1] == "b.jpg"

    with ThreadPoolExecutor(4) as pool:
        at_work = [pool.submit(search, number) for number in range(4)]
        try:
            for number in range(6):
                draw(photos / "sub" / "h.png", 90 + number)
                update(searcher.folder, photos)
                compact(searcher.folder)
        finally:
            done.append(True)
        assert all(one.result(30) is None for one in at_work)


def test_the_command(run_here, index, photos, update, capsys):
    (photos / "a.png").unlink()
    update(index, photos)
    with pytest.raises(SystemExit) as ended:
        run_here("mlvl-search", "compact", index)
    assert ended.value.code == 0
    assert "rows left out: 1, parts: 1 (before: 1), " in capsys.readouterr().out
