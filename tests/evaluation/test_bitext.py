"""Translation retrieval: accuracies by the definition, layouts of files, and what is wrong in them."""

import gzip
import json
from types import SimpleNamespace

import numpy as np
import pytest

from mlvl_fairseq.data.captions.table import Problems
from mlvl_fairseq.data.parallel.bitext import read_bitext
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.evaluation.evaluators.bitext import BitextOptions, BitextRetrieval
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks
from mlvl_fairseq.inference.encoder import Encoder

# Of the first two sentences one is found; the last three are alike, so that the first of them is found for all.
VECTORS = {
    "en": {"one": (1, 0), "two": (9, 5), "three": (-1, 0), "four": (0, -1), "again": (0, -1)},
    "de": {"eins": (2, 0.1), "zwei": (1, 0.2), "drei": (0, -1), "vier": (0, -1), "noch": (0, -3)},
}
GERMAN, ENGLISH = (list(VECTORS[lang]) for lang in ("de", "en"))


@pytest.fixture
def encoder(monkeypatch):
    """Every checkpoint is this model."""

    def encode_texts(texts, lang, batch_size):
        model.calls.append((lang, batch_size))
        model.texts = list(texts)
        return np.array([VECTORS[lang[:2]][text.removeprefix("query: ")] for text in texts], np.float32)

    tokenizer = SimpleNamespace(name="words")
    model = SimpleNamespace(encode_texts=encode_texts, max_length=9, tokenizer=tokenizer, fingerprint="sha", calls=[])
    monkeypatch.setattr(Encoder, "load", lambda path, **options: model)
    return model


@pytest.fixture
def write(tmp_path):
    """``write(name, lines)``: a file of the test's folder."""

    def write_lines(name, lines):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    return write_lines


def evaluate(run_here, capsys, *arguments):
    with pytest.raises(SystemExit) as exit:
        run_here("mlvl-evaluate", "bitext", "--checkpoint", "x.pt", *arguments)
    return exit.value.code, capsys.readouterr()


def by_definition(sources, targets):
    """R@1 in %; of equal cosines the first target is found."""
    unit = [np.array(rows, float) / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (sources, targets)]
    return 100 * np.mean((unit[0] @ unit[1].T).round(9).argmax(axis=1) == np.arange(len(sources)))


SIDES = [list(VECTORS[lang].values()) for lang in ("de", "en")]
EXPECTED = {"to_r1": by_definition(*SIDES), "from_r1": by_definition(*SIDES[::-1])}


def test_the_expectation_tells_both_ways_apart():
    assert EXPECTED == {"to_r1": 40, "from_r1": 60}


def test_scores_by_the_definition(run_here, capsys, encoder, write, tmp_path):
    write("val.de", GERMAN), write("val.en", ENGLISH), write("val.de2", GERMAN[::-1])
    files = ["--sentences", tmp_path / "val.{lang}", "--translations", tmp_path / "val.{pivot}"]
    code, printed = evaluate(run_here, capsys, *files, "--lang", "de", "--output-dir", tmp_path / "scores")
    scores = json.loads(printed.out)
    assert code == 0 and {name: scores[name] for name in EXPECTED} == EXPECTED and scores["r1"] == 50
    signature = dict(part.split(":") for part in scores["signature"].split("|"))
    assert "images" not in signature
    assert {key: signature[key] for key in ("lang", "pivot", "texts", "search", "ties")} == {
        "lang": "de", "pivot": "en", "texts": "10", "search": "cosine", "ties": "index",
    }  # fmt: skip
    ranks = QueryRanks.load(tmp_path / "scores" / "de.test.ranks.npz")
    assert 100 * np.mean(ranks.text_ranks < 1) == scores["to_r1"]
    assert 100 * np.mean(ranks.image_ranks < 1) == scores["from_r1"]
    # another language with the same translations: they are encoded once
    encoder.calls.clear()
    assert evaluate(run_here, capsys, *files, "--lang", "de,de2", "--batch-size", "3")[0] == 0
    assert encoder.calls == [("de", 3), ("en", 3), ("de2", 3)]
    other = evaluate(run_here, capsys, *files, "--lang", "de2", "--prefix", "query: ")[1]
    assert encoder.texts == [f"query: {text}" for text in ENGLISH]
    assert "|prefix:'query: '|" in other.out and signature["data"] not in other.out


def test_languages_may_have_translations_of_their_own(run_here, capsys, encoder, write, tmp_path):
    write("a.de", GERMAN), write("a.de.en", ENGLISH), write("a.de2", GERMAN), write("a.de2.en", ENGLISH[::-1])
    files = ["--sentences", tmp_path / "a.{lang}", "--translations", tmp_path / "a.{lang}.en", "--format", "json"]
    code, printed = evaluate(run_here, capsys, *files, "--lang", "de,de2")
    scores = json.loads(printed.out)["languages"]
    turned = by_definition(SIDES[0], SIDES[1][::-1])
    assert code == 0 and (scores["de"]["to_r1"], scores["de2"]["to_r1"]) == (EXPECTED["to_r1"], turned)
    assert turned != EXPECTED["to_r1"]


@pytest.mark.parametrize(
    "layout, names, options",
    [
        ("tatoeba", ("tatoeba.deu-eng.deu", "tatoeba.deu-eng.eng"), ["--file-codes", "de=deu, en=eng, fr=fra"]),
        (
            "flores",
            ("dev/deu_Latn.dev", "dev/eng_Latn.dev"),
            ["--split=dev", "--file-codes=de=deu_Latn,en=eng_Latn,fr=fra"],
        ),
    ],
)
def test_layouts(run_here, capsys, encoder, write, tmp_path, layout, names, options):
    for name, lines in zip(names, (GERMAN, ENGLISH)):
        write(name, lines)
    code, printed = evaluate(run_here, capsys, "--layout", layout, "--root", tmp_path, "--lang", "de", *options)
    assert code == 0 and json.loads(printed.out)["to_r1"] == EXPECTED["to_r1"]
    code, printed = evaluate(run_here, capsys, "--layout", layout, "--root", tmp_path, "--lang", "fr", *options)
    assert code == 2 and names[0].replace("deu_Latn", "fra").replace("deu", "fra") in printed.err
    assert f"is there in: {options[-1].partition('de=')[2].partition(',')[0]}" in printed.err


@pytest.mark.parametrize(
    "options, message",
    [
        (["--sentences", "a"], "give either --sentences FILE and --translations FILE, or --layout NAME"),
        (["--sentences", "a", "--translations", "b", "--layout", "flores", "--root", "c"], "give either --sentences"),
        (["--layout", "flores", "--root", "none"], "--root none is no folder"),
        (["--sentences", "a", "--translations", "b", "--file-codes", "de"], "--file-codes de: give each language once"),
        (["--sentences", "a", "--translations", "b", "--pivot", "de"], "--lang de is the --pivot"),
        (["--sentences", "a", "--translations", "b", "--lang", "de,fr"], "--sentences 'a' needs {lang}"),
    ],
)
def test_wrong_options(run_here, capsys, encoder, options, message):
    code, printed = evaluate(run_here, capsys, "--lang", "de", *options)
    assert code == 2 and message in printed.err and not encoder.calls


def test_pairs_that_cannot_be_used_are_counted(run_here, capsys, encoder, write, tmp_path, caplog):
    german = [*GERMAN[:2], "", *GERMAN[2:], "  ", "kaputt"]
    english = [*ENGLISH[:2], "lost", *ENGLISH[2:], "lost"]
    write("val.de", german)
    (tmp_path / "val.en").write_bytes("\n".join(english).encode() + b"\n\xff\xfe!\n")
    files = ["--lang=de", "--sentences", tmp_path / "val.de", "--translations", tmp_path / "val.en"]
    code, printed = evaluate(run_here, capsys, *files)
    scores = json.loads(printed.out)
    assert code == 0 and {name: scores[name] for name in EXPECTED} == EXPECTED and "|texts:10|" in scores["signature"]
    assert "2 empty line, 1 bad encoding; 3 pairs of sentences left out" in caplog.text
    assert f"empty line: {tmp_path / 'val.de'}:3: is empty" in caplog.text and "val.en:8: is not valid" in caplog.text
    assert evaluate(run_here, capsys, *files, "--max-problems", "2")[0] == 2
    code, printed = evaluate(run_here, capsys, *files, "--on-problem", "error")
    assert code == 2 and "val.de:3: is empty; mend it, or choose --on-problem skip" in printed.err


def test_files_of_unequal_length(write):
    with pytest.raises(DataError, match=r"b.de: has 5 lines, and '.*b.en' has 4: line by line they are pairs"):
        read_bitext(write("b.de", GERMAN), write("b.en", ENGLISH[:4]), Problems())


def test_blank_lines_at_the_end_are_no_lines(write, tmp_path):
    packed = tmp_path / "c.en.gz"
    packed.write_bytes(gzip.compress("\n".join(ENGLISH).encode()))
    found = read_bitext(write("c.de", [*GERMAN, "", " "]), packed, Problems())
    assert (found.sentences, found.translations) == (GERMAN, ENGLISH) and not found.problems


def test_nothing_left(write):
    with pytest.raises(DataError, match=r"is a pair of sentences \(1 empty line\)"):
        read_bitext(write("d.de", [""]), write("d.en", ["one"]), Problems())


def test_options_are_of_one_evaluator():
    evaluator = BitextRetrieval(BitextOptions(lang=["de"], sentences="a", translations="b"))
    assert evaluator.settings() == {"pivot": "en", "split": "test"}
    with pytest.raises(UserError, match="'deutsch!' is no code"):
        BitextRetrieval(BitextOptions(lang=["de"], sentences="a", translations="b", pivot="deutsch!"))
