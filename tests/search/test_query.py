"""What is searched for, against cosines computed in double precision."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from drawn_photos import NAMES, draw

from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.search.engines import ENGINES, choose_engine, rank_exactly
from mlvl_fairseq.search.engines.base import Engine
from mlvl_fairseq.search.marks import take_out
from mlvl_fairseq.search.query import Query
from mlvl_fairseq.search.searcher import Searcher


@pytest.fixture(scope="module")
def searcher(standing, model):
    return Searcher(standing, model)


@pytest.fixture(scope="module")
def photos_there(standing):
    return standing.parent / "photos"


def unit(vectors):
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def ranked(query, vectors):
    """Rows, best first, and their cosines."""
    scores = unit(vectors) @ unit(query)
    order = np.argsort(-scores, kind="stable")
    return order.tolist(), scores[order]


@pytest.mark.parametrize(
    "line, text, unwanted",
    [
        ("ein Hund im Schnee", "ein Hund im Schnee", []),
        ("Hund -Schnee im Wald", "Hund im Wald", ["Schnee"]),
        ('-Schnee Hund -"am Meer" -Ball', "Hund", ["Schnee", "am Meer", "Ball"]),
        ("rot-blau - grau --neu 5-6", "rot-blau - grau --neu 5-6", []),
        ("Hund -„am Meer“", "Hund", ["am Meer"]),
        ("狗 -雪", "狗", ["雪"]),
        ('-"" Hund', "Hund", []),
    ],
)
def test_a_dash_stands_before_what_is_not_wanted(line, text, unwanted):
    query = Query.typed(line)
    assert (query.text, query.unwanted) == (text, unwanted)


def test_words_find_pictures_by_their_cosine(searcher, model):
    found = searcher.search(Query("two dogs in the snow"), 5)
    rows, scores = ranked(model.encode_text(["two dogs in the snow"])[0], searcher.index.vectors(range(8)))
    assert found.rows == rows[:5] and found.matched is None
    np.testing.assert_allclose(found.scores, scores[:5], atol=1e-6)
    assert searcher.search(Query("two dogs in the snow"), 5, start=5).rows == rows[5:]


def test_half_of_what_is_not_wanted_is_taken_away(searcher, model):
    wanted, snow, ball = unit(model.encode_text(["dogs", "snow", "a ball"]))
    rows, scores = ranked(wanted - snow / 2 - ball / 2, searcher.index.vectors(range(8)))
    found = searcher.search(Query.typed('dogs -snow -"a ball"'), 8)
    assert found.rows == rows
    np.testing.assert_allclose(found.scores, scores, atol=1e-6)


def test_a_picture_finds_itself_and_words_can_be_added(searcher, model, photos_there):
    assert searcher.search(Query(picture=photos_there / "c.png"), 1).rows == [NAMES.index("c.png")]
    both = unit(model.encode_image([photos_there / "c.png"])[0]) + unit(model.encode_text(["a ball"])[0])
    rows, _ = ranked(both, searcher.index.vectors(range(8)))
    assert searcher.search(Query("a ball", picture=photos_there / "c.png"), 8).rows == rows


def test_more_like_a_picture_leaves_it_out(searcher):
    rows, scores = ranked(searcher.index.vectors([3])[0], searcher.index.vectors(range(8)))
    assert rows[0] == 3
    found = searcher.search(Query(like=3), 4)
    assert found.rows == rows[1:5]
    np.testing.assert_allclose(found.scores, scores[1:5], atol=1e-6)
    assert searcher.search(Query(like=3), 8).rows == rows[1:]


@pytest.mark.parametrize(
    "query, k, said",
    [
        (Query(), 3, "say what is searched for"),
        (Query(unwanted=["snow"]), 3, "words after a dash are only left out"),
        (Query(like=8), 3, "has no picture 8"),
        (Query("dog", lang="en"), 1001, "at most 1000 results"),
    ],
)
def test_queries_that_mean_nothing_are_refused(searcher, query, k, said):
    with pytest.raises((UserError, DataError), match=said):
        searcher.search(query, k)


def test_it_follows_the_index_and_older_results_stay_readable(index, model, photos, update):
    searcher = Searcher(index, model)
    before = searcher.search(Query("dogs"), 8)
    draw(photos / "new.png", 70)
    (photos / "a.png").unlink()
    update(index, photos)
    take_out(index, ["b.jpg"])
    after = searcher.search(Query("dogs"), 9)
    assert {after.index.name(row) for row in after.rows} == {*NAMES, "new.png"} - {"a.png", "b.jpg"}
    assert {before.index.name(row) for row in before.rows} == set(NAMES)


def test_an_index_that_breaks_while_it_is_searched_goes_on_as_it_was(index, model, caplog):
    searcher = Searcher(index, model)
    (index / "index.json").write_text("{")
    assert len(searcher.search(Query("dogs"), 8).rows) == 8
    assert "the index cannot be read any more" in caplog.text


def test_another_model_is_refused(standing, other_model):
    with pytest.raises(UserError, match="give --checkpoint the model of the index"):
        Searcher(standing, other_model)


@pytest.fixture
def other_model(model):
    return SimpleNamespace(fingerprint="0" * 64, encoder=model.encoder)


def test_the_best_are_those_of_exact_scores(index_of):
    """Scores that float32 cannot tell apart: rows that differ by less than a product rounds."""
    rng = np.random.default_rng(0)
    query = unit(rng.standard_normal(512))
    near = unit(query + 1e-7 * rng.standard_normal((64, 512))).astype(np.float32)
    opened = index_of(near)
    query = query.astype(np.float32)[None]
    exact = ENGINES["exact"](opened)
    best = rank_exactly(opened, query, exact.candidates(query, 1), 1)[0].indices[0, 0]
    grid = np.rint(near.astype(np.float64) * 2**25) @ np.rint(query[0].astype(np.float64) * 2**25)
    assert best == np.argmax(grid)
    assert len(exact.candidates(query, 1)[0]) > 1  # float32 alone could not say


def test_an_engine_is_chosen_by_the_number_of_pictures(monkeypatch):
    class Large(Engine):
        least, requires, extra, about = 1000, "json", "huge", ""
        candidates = None

    class Missing(Large):
        least, requires = 10, "no_such_package"

    for name, engine in {"large": Large, "missing": Missing}.items():
        monkeypatch.setitem(ENGINES, name, engine)
    assert choose_engine(None, 999).least < 10 and choose_engine(None, 1000) is Large
    with pytest.raises(UserError, match=r"needs no_such_package: pip install 'mlvl_fairseq\[huge\]'"):
        choose_engine("missing", 5)
    with pytest.raises(UserError, match="no engine 'x'; there are: exact"):
        choose_engine("x", 5)


def test_the_command(run_here, small_clip, photos, tmp_path, capsys):
    out = tmp_path / "ix"
    for checkpoint in (["--checkpoint", small_clip], []):
        with pytest.raises(SystemExit) as ended:
            run_here("mlvl-search", "index", photos, out, *checkpoint)
        assert ended.value.code == 0
        assert "8 pictures, compared exactly" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run_here("mlvl-search", "remove", out, "a.png")
    assert "1 picture taken out" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run_here("mlvl-search", "query", out, "--image", photos / "c.png", "--json", "-k", "2")
    results = json.loads(capsys.readouterr().out)["results"]
    assert [results[0]["row"], results[0]["name"]] == [2, "c.png"] and results[0]["score"] > 0.9999
    with pytest.raises(SystemExit):
        run_here("mlvl-search", "query", out, "--like", "2", "-k", "9")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and {line.split()[2] for line in lines} == set(NAMES) - {"a.png", "c.png"}


@pytest.mark.parametrize("arguments", [["query", "{tmp}/none", "dog"], ["index", "{tmp}", "{tmp}/none"]])
def test_a_wrong_command_is_one_line(run_here, tmp_path, capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        run_here("mlvl-search", *(argument.format(tmp=tmp_path) for argument in arguments))
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
