"""mlvl-cll: languages one after another, what is done stays done, and every method runs."""

import shlex
import sys
from pathlib import Path

import pytest

from mlvl_fairseq.checkpoints.comparison import differing
from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file
from mlvl_fairseq.continual import evaluation
from mlvl_fairseq.continual.methods import list_methods
from mlvl_fairseq.inference import Encoder

METHODS = [name for name in list_methods() if name.startswith("cll_clip")]  # ways to train the token embedding
SCORES = {"txt_r1", "txt_r5", "txt_r10", "img_r1", "img_r5", "img_r10", "r_mean", "signature"}
CLIP_SIZE = 49408


def contents(folder):
    """Every file with the time of its last change, and run.json, which is confirmed by every call."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != "run.json"}


@pytest.fixture(scope="module")
def runs(learn, tmp_path_factory):
    """A finished run over three languages by method."""
    done = {}

    def run_of(method):
        if method not in done:
            done[method] = learn(tmp_path_factory.mktemp("runs") / method, method, "en,de,ru")
        return done[method]

    return run_of


@pytest.mark.parametrize("method", METHODS)
def test_three_languages_leave_a_lower_triangle_of_scores(runs, method, read_json, corpus, teacher):
    run = runs(method)
    manifest = read_json(run / "run.json")
    assert manifest["method"] == method and manifest["languages"] == ["en", "de", "ru"]
    assert manifest["corpus"] == str(corpus) and manifest["init_from"] == str(teacher)
    found = {str(path.relative_to(run / "scores")) for path in run.glob("scores/*/*")}
    rows = {"00-en": ["en"], "01-de": ["en", "de"], "02-ru": ["en", "de", "ru"]}
    scores = {f"{row}/{lang}.test.json" for row, languages in rows.items() for lang in languages}
    assert found == scores | {name.replace(".json", ".ranks.npz") for name in scores}
    for name in scores:
        scores = read_json(run / "scores" / name)
        assert scores.keys() == SCORES
        assert all(0 <= scores[key] <= 100 for key in SCORES - {"signature"})
    for row in rows:
        done = read_json(run / row / "done.json")
        files = sorted(path.name for path in (run / row).iterdir())
        assert files == ["checkpoint_best.pt", "costs.json", "done.json", "eval.log", "evaluated.json", "train.log"]
        state = load_checkpoint_file(run / row / "checkpoint_best.pt")
        assert done["num_updates"] == 7 and "last_optimizer_state" not in state


def test_a_method_changes_what_is_learned(runs):
    """The methods begin with the same weights and see the same batches."""
    weights = [
        load_checkpoint_file(runs(method) / "02-ru" / "checkpoint_best.pt")["model"]["text.token_embedding.weight"]
        for method in METHODS
    ]
    assert len({weight.shape for weight in weights}) == 1
    assert all((weights[i] - weights[i - 1]).abs().max() > 1e-4 for i in range(len(METHODS)))


def test_vocabulary_and_frequencies_grow(runs, corpus):
    """``f`` counts English pre-training and every earlier language that used a token (Yang et al. 2024, 3.4)."""
    run, size = runs("cll_clip"), 0
    states = [load_checkpoint_file(run / row / "checkpoint_best.pt") for row in ("00-en", "01-de", "02-ru")]
    used = [state["model"]["language_state.current_tokens"] for state in states]
    for step, state in enumerate(states):
        dictionary = (corpus / "bin" / "+".join(["en", "de", "ru"][: step + 1]) / "dict.txt").read_text().splitlines()
        frequencies = state["model"]["language_state.token_frequencies"]
        assert size < len(dictionary) == len(frequencies) == len(state["model"]["text.token_embedding.weight"])
        expected = [1 + (token < CLIP_SIZE) for token in range(len(dictionary))]
        for earlier in used[:step]:
            for token in earlier.nonzero().flatten().tolist():
                expected[token] += 1
        assert frequencies.tolist() == expected
        size = len(dictionary)


def test_second_call_does_nothing(runs, learn):
    run = runs("cll_clip")
    before, manifest = contents(run), (run / "run.json").read_bytes()
    learn(run, "cll_clip", "en,de,ru")
    assert contents(run) == before and (run / "run.json").read_bytes() == manifest


def test_longer_order_adds_a_language(runs, learn, tmp_path):
    """The result is that of the whole order at once; the languages before are not touched."""
    run = learn(tmp_path / "run", "cll_clip", "en,de")
    before = contents(run)
    learn(run, "cll_clip", "en,de,ru")
    after = contents(run)
    assert before.items() <= after.items()
    added = {str(path.relative_to(run)) for path in after.keys() - before.keys()}
    assert {"02-ru/done.json", *(f"scores/02-ru/{lang}.test.json" for lang in ("en", "de", "ru"))} <= added
    assert all("02-ru" in name for name in added)
    for path in run.glob("scores/*/*"):
        assert path.read_bytes() == (runs("cll_clip") / path.relative_to(run)).read_bytes()


def test_a_missing_score_is_computed_again(runs, learn):
    run = runs("cll_clip_with_teir")
    score = run / "scores" / "01-de" / "en.test.json"
    text, before = score.read_text(), contents(run)
    score.unlink()
    learn(run, "cll_clip_with_teir", "en,de,ru")
    assert score.read_text() == text
    changed = {path.relative_to(run).as_posix() for path, time in contents(run).items() if before[path] != time}
    scores = {"scores/01-de/en.test.json", "scores/01-de/en.test.ranks.npz"}
    assert changed <= scores | {"01-de/eval.log", "01-de/costs.json", "01-de/evaluated.json"}


@pytest.mark.parametrize(
    "method, order, more, named",
    [
        ("cll_clip", "en,de,ru", ["--lr", "2e-3"], "--lr is 0.001 there, 0.002 here"),
        ("cll_clip_with_teir", "en,de,ru", [], "--method is cll_clip there, cll_clip_with_teir here"),
        ("cll_clip", "en,ru,de", [], "--order is en,de,ru there, en,ru,de here"),
        ("cll_clip", "en,de", [], "--order is en,de,ru there, en,de here"),
        ("cll_clip", "en,de,ru", ["--new-row-std", "0.1"], "--new-row-std is 0.02 there, 0.1 here"),
    ],
)
def test_other_settings_are_refused(runs, run, corpus, sequence_options, method, order, more, named):
    folder = runs("cll_clip")
    before, manifest = contents(folder), (folder / "run.json").read_bytes()
    ended = run("mlvl-cll", corpus, folder, "--method", method, "--order", order, *sequence_options, *more)
    assert named in ended.error and str(folder) in ended.error
    assert contents(folder) == before and (folder / "run.json").read_bytes() == manifest


def test_dry_run_prints_lines_that_run(runs, succeed, corpus, sequence_options, tmp_path):
    """Run in order, they train what mlvl-cll trains."""
    order = ["--method", "cll_clip_with_teir_update", "--order", "en,de"]
    lines = succeed("mlvl-cll", corpus, tmp_path / "run", *order, *sequence_options, "--dry-run").splitlines()
    assert not (tmp_path / "run").exists()
    commands = [shlex.split(line) for line in lines]
    assert [command[0] for command in commands] == ["fairseq-train", "fairseq-train"]
    for command in commands:
        succeed(*command)
    for row in ("00-en", "01-de"):
        ours = load_checkpoint_file(tmp_path / "run" / row / "checkpoint_best.pt")["model"]
        theirs = load_checkpoint_file(runs("cll_clip_with_teir_update") / row / "checkpoint_best.pt")["model"]
        assert ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)


def test_dry_run_prints_how_ranks_are_started(succeed, corpus, sequence_options, tmp_path):
    launch = ["--launch", "srun torchrun --rdzv-id 'a b'", "--distributed-world-size", 8]
    order = ["--method", "cll_clip", "--order", "en,de"]
    plain = succeed("mlvl-cll", corpus, tmp_path / "run", *order, *sequence_options, *launch[2:], "--dry-run")
    lines = succeed("mlvl-cll", corpus, tmp_path / "run", *order, *sequence_options, *launch, "--dry-run")
    program = str(Path(sys.executable).with_name("fairseq-train"))
    assert len(lines.splitlines()) == 2
    for line, without in zip(lines.splitlines(), plain.splitlines()):
        expected = ["srun", "torchrun", "--rdzv-id", "a b", program, *shlex.split(without)[1:]]
        assert shlex.split(line) == expected


def test_methods_are_listed(succeed):
    lines = succeed("mlvl-cll", "--list-methods").splitlines()
    assert [line.split()[0] for line in lines] == list(list_methods())
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize("method", ["cll_clip", "lora_with_teir_update"])
def test_a_language_in_the_middle_keeps_what_it_changed(runs, learn, succeed, method, tmp_path):
    """Numbers are those of whole checkpoints, in the run's folder, as a start for others, and exported."""
    run = runs(method)
    whole = learn(tmp_path / "whole", method, "en,de,ru", "--whole-checkpoints")
    for row in ("00-en", "01-de", "02-ru"):
        assert differing(run / row / "checkpoint_best.pt", whole / row / "checkpoint_best.pt") == []
    middle, alone = (folder / "01-de" / "checkpoint_best.pt" for folder in (run, whole))
    assert 5 * middle.stat().st_size < alone.stat().st_size
    assert (run / "02-ru" / "checkpoint_best.pt").stat().st_size == pytest.approx(alone.stat().st_size, rel=0.1)
    encoders = [Encoder.load(path) for path in (middle, alone)]
    assert encoders[0].fingerprint == encoders[1].fingerprint
    succeed("mlvl-export", "checkpoint", middle, tmp_path / "out")
    exported = Encoder.load(tmp_path / "out" / "checkpoint.pt")
    assert (exported.encode_texts(["ein Kreis"], "de") == encoders[1].encode_texts(["ein Kreis"], "de")).all()


def test_a_language_for_which_nothing_changed_is_not_encoded_again(learn, monkeypatch, tmp_path):
    """Only adapters train, and captions stay cut as they were. Scores are byte by byte those of encoding again."""
    ranked, rank = tmp_path / "ranked", evaluation.rank_retrieval

    def and_note(*arguments, **options):
        with ranked.open("a") as file:
            file.write(f"{arguments[5]} ")
        return rank(*arguments, **options)

    monkeypatch.setattr(evaluation, "rank_retrieval", and_note)  # in the processes that are forked from here, too
    options = ("lora", "en,de,ru", "--freeze", "^text", "--segmentation", "frozen")
    run = learn(tmp_path / "run", *options)
    assert ranked.read_text() == "en de ru "
    scores = {path: path.read_bytes() for path in run.glob("scores/*/*")}
    monkeypatch.setattr(evaluation, "_digests", lambda folder: {})  # as if nothing were known of earlier scores
    for path in scores:
        path.unlink()
    learn(run, *options)
    assert ranked.read_text() == "en de ru en en de en de ru "
    assert {path: path.read_bytes() for path in run.glob("scores/*/*")} == scores
