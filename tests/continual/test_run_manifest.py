"""``run.json`` of a folder in which a run goes on."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from mlvl_fairseq.continual.sequence import Sequence, Settings
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.runs.folder import read_run_manifest

CORPUS = SimpleNamespace(
    fingerprint="f",
    language_fingerprint="f-{}".format,
    teacher_fingerprint="t-{}".format,
    usable=lambda split, lang: range(64),
)
SETTINGS = Settings(
    method="cll_clip", preset="default", protocol="sequence", languages=["en", "de"], corpus="c", init_from=None,
    arch="clip_tiny", max_epoch=1, max_update=0, batch_size=16, lr=0.1, warmup_ratio=0.1, seed=1, eval_split="test",
    extra=[],
)  # fmt: skip


def test_what_a_run_writes_a_report_reads(tmp_path):
    Sequence(tmp_path, SETTINGS).open(CORPUS)
    manifest = read_run_manifest(tmp_path / "run.json")
    assert manifest.languages == ["en", "de"] and manifest.protocol.name == "sequence"
    assert manifest.settings == {
        **vars(SETTINGS),
        "corpus_fingerprint": {"en": "f-en", "de": "f-de"},
        "teacher_fingerprint": {"en": "t-en", "de": "t-de"},
        "init_from_fingerprint": None,
    }


def has_trained(folder):
    (folder / "00-en").mkdir(parents=True)
    (folder / "00-en" / "checkpoint_last.pt").touch()


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_manifest_is_named(tmp_path, content):
    has_trained(tmp_path)
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(DataError, match="run.json: "):
        Sequence(tmp_path, SETTINGS).open(CORPUS)
    assert (tmp_path / "run.json").read_text() == content


def test_only_a_sequence_can_become_longer(tmp_path):
    longer = {"languages": ["en", "de", "fr"]}
    for protocol in ("sequence", "joint"):
        has_trained(tmp_path / protocol)
        Sequence(tmp_path / protocol, replace(SETTINGS, protocol=protocol)).open(CORPUS)
    Sequence(tmp_path / "sequence", replace(SETTINGS, **longer)).open(CORPUS)
    assert json.loads((tmp_path / "sequence" / "run.json").read_text())["languages"] == longer["languages"]
    with pytest.raises(UserError, match="holds another run .*--order is en,de there, en,de,fr here"):
        Sequence(tmp_path / "joint", replace(SETTINGS, protocol="joint", **longer)).open(CORPUS)


def test_a_run_that_failed_before_it_trained_gives_its_folder_free(tmp_path):
    Sequence(tmp_path, SETTINGS).open(CORPUS)
    other = replace(SETTINGS, extra=["--clip-norm", "2"])
    Sequence(tmp_path, other).open(CORPUS)
    has_trained(tmp_path)
    with pytest.raises(UserError, match="holds another run .*--clip-norm is 2.0 there, 1.0 here"):
        Sequence(tmp_path, SETTINGS).open(CORPUS)


def test_joined_methods_are_one_in_any_order(tmp_path):
    """Also in runs of earlier versions, which have recorded what was typed."""
    has_trained(tmp_path)
    Sequence(tmp_path, replace(SETTINGS, method="oewc+er")).open(CORPUS)
    assert read_run_manifest(tmp_path / "run.json").settings["method"] == "er+oewc"
    Sequence(tmp_path, replace(SETTINGS, method="er+oewc")).open(CORPUS)
    with pytest.raises(UserError, match=r"--method is er\+oewc there, er here"):
        Sequence(tmp_path, replace(SETTINGS, method="er")).open(CORPUS)


def other_corpus(fingerprint, **changed):
    language = lambda lang: changed.get(lang, f"f-{lang}")  # noqa: E731
    return SimpleNamespace(**{**vars(CORPUS), "fingerprint": fingerprint, "language_fingerprint": language})


def test_a_run_goes_on_with_a_corpus_that_has_got_languages_and_with_no_other(tmp_path):
    has_trained(tmp_path)
    Sequence(tmp_path, SETTINGS).open(CORPUS)
    longer = Sequence(tmp_path, replace(SETTINGS, languages=["en", "de", "fr"]))
    with pytest.raises(UserError, match=r"holds another run \(the corpus holds other captions in de than it did\)"):
        longer.open(other_corpus("f2", de="g"))
    longer.open(other_corpus("f2"))
    with pytest.raises(UserError, match="other captions in de, fr than it did"):
        longer.open(other_corpus("f2", de="g", fr="g"))


def test_a_run_of_an_earlier_version_goes_on_with_the_same_corpus_only(tmp_path):
    has_trained(tmp_path)
    manifest = tmp_path / "run.json"
    manifest.write_text(json.dumps({**vars(SETTINGS), "corpus_fingerprint": "f"}))
    with pytest.raises(UserError, match="the corpus has changed since"):
        Sequence(tmp_path, SETTINGS).open(other_corpus("f2"))
    Sequence(tmp_path, SETTINGS).open(CORPUS)
    assert json.loads(manifest.read_text())["corpus_fingerprint"] == {"en": "f-en", "de": "f-de"}
    Sequence(tmp_path, SETTINGS).open(other_corpus("f2"))  # now it is known what it depends on


def test_a_run_goes_on_with_the_teacher_s_features_it_began_with(tmp_path):
    has_trained(tmp_path)
    Sequence(tmp_path, SETTINGS).open(CORPUS)
    swapped = SimpleNamespace(**{**vars(CORPUS), "teacher_fingerprint": {"en": "t-en", "de": "other"}.get})
    with pytest.raises(UserError, match="the teacher's features of the captions in de are others than they were"):
        Sequence(tmp_path, SETTINGS).open(swapped)
