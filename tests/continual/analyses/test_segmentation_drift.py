"""What a growing vocabulary cuts differently, against the reference's example and by hand."""

import json

import pytest
from golden import load_golden

from mlvl_fairseq.cli.analyse import main as analyse
from mlvl_fairseq.cli.prepare import main as prepare
from mlvl_fairseq.continual.analyses.segmentation_drift import count_changes, segmentation_drift
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.text import ClipTokenizer, Vocabulary, clip_vocabulary, train_bpe
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.picture_world import WorldSettings, get_language, plan_world
from mlvl_fairseq.runs.folder import RunFolder


def test_counts_are_those_of_the_reference():
    """30 of 150 Spanish captions after Portuguese and Romanian: those with "salta", which was two pieces, then one."""
    golden = load_golden("drift")
    spanish = golden["corpora"]["es"]
    vocabulary = clip_vocabulary().grown_by(train_bpe(spanish, golden["vocab_size"]))
    portuguese = Vocabulary(["sal", "ta</w>", "salta</w>"], [("sal", "ta</w>")])
    before, after = ClipTokenizer(vocabulary), ClipTokenizer(vocabulary.grown_by(portuguese))
    found = count_changes(before.words(spanish), after.words(spanish))
    changed, total = map(int, golden["changed_captions_vs_final"]["es"].split("/"))
    assert (found["changed_captions"], found["captions"]) == (changed, total) == (30, 150)
    assert found["words"] == sum(len(caption.split()) for caption in spanish)
    assert found["changed_words"] == sum(caption.split().count("salta") for caption in spanish) == 30
    assert found["changed_tokens"] == 60 and found["tokens"] - found["tokens_now"] == 30


ORDER = ["en", "zh", "qab", "de"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drift")
    pictures = plan_world(WorldSettings(train=20, valid=1, test=1))["train"]
    for lang in ORDER:
        say = get_language(lang).caption
        rows = [{"image": picture.name, "caption": say(plan)} for picture in pictures for plan in picture.plans]
        (folder / f"{lang}.json").write_text(json.dumps(rows), encoding="utf-8")
    files = ["--train", str(folder / "{lang}.json"), "--bpe-size", "400"]
    prepare([str(folder / "corpus"), "--languages", ",".join(ORDER), *files, "--order", ",".join(ORDER)])
    return Corpus(folder / "corpus")


@pytest.fixture
def run(corpus, tmp_path):
    """``run(order, ...)``: the folder of a run, as far as it is looked at."""

    def make(languages, **settings):
        manifest = {"languages": languages, "corpus": str(corpus.folder), "method": "cll_clip", **settings}
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        (folder / "run.json").write_text(json.dumps(manifest))
        return folder

    return make


def test_every_earlier_language_at_every_step(corpus, run, tmp_path, capsys):
    folder = run(ORDER)
    drift = segmentation_drift(RunFolder.read(folder))
    cutters = {
        step: ClipTokenizer(Vocabulary.load(corpus.folder / "bin" / "+".join(ORDER[:step]))) for step in range(1, 5)
    }
    assert {lang: list(own) for lang, own in drift.items()} == {
        lang: ORDER[step:] for step, lang in enumerate(ORDER[:-1], 1)
    }
    for step, lang in enumerate(ORDER[:-1], 1):
        texts = corpus.captions("train", lang)
        then = [cutters[step].tokens(text) for text in texts]
        for later in range(step + 1, 5):
            now, own = [cutters[later].tokens(text) for text in texts], drift[lang][ORDER[later - 1]]
            assert own["changed_captions"] == sum(a != b for a, b in zip(then, now)) and own["captions"] == len(texts)
            assert (own["tokens"], own["tokens_now"]) == (sum(map(len, then)), sum(map(len, now)))
    assert any(own["changed_captions"] for later in drift.values() for own in later.values())
    analyse(["segmentation", str(folder), "--output", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "captions after de" in printed and "n/a" in printed  # what is learned is not changed at once
    assert json.loads((tmp_path / "out" / "segmentation.json").read_text()) == {"run": drift}
    assert (tmp_path / "out" / "segmentation.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "languages, settings, message",
    [
        (["en"], {}, "a sequence of at least two languages; this is none"),
        (["en", "es"], {"protocol": "joint"}, "a sequence of at least two languages; this is none"),
        (["en", "es"], {"method": "oracle_teir"}, "and does not grow"),
        (["en", "fr"], {}, "no train captions in language 'fr'"),
        (["en", "de"], {}, "no vocabulary in .*mlvl-prepare .*corpus --order en,de makes it"),
    ],
)
def test_runs_without_drift_are_refused(run, languages, settings, message):
    with pytest.raises(UserError, match=message):
        segmentation_drift(RunFolder.read(run(languages, **settings)))
