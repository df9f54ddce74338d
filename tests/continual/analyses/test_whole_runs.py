"""Both analyses of a whole run: of which models and captions, what is kept, what a second call does not do again."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from mlvl_fairseq.continual.analyses import attention_drift as attention
from mlvl_fairseq.continual.analyses import convergence
from mlvl_fairseq.continual.analyses.convergence import average_loss, fisher_diagonal_sums, weight_noise
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.runs.folder import StepFolder

LANGUAGES = ["en", "de", "ru"]


@pytest.fixture
def corpus(monkeypatch):
    """Captions are their numbers in words; of German ones, the second has no English sentence."""
    generator = np.random.default_rng(0)
    features = {kind: generator.standard_normal((8, 8)).astype(np.float32) for kind in ("image", "text")}
    rows = {lang: np.array([[0, 1], [1, 2], [2, 3], [1, 4]], np.int32) + i for i, lang in enumerate(LANGUAGES)}
    rows["de"][1, 1] = -1
    stub = SimpleNamespace(
        folder="corpus",
        captions=lambda split, lang: [f"{lang} {number}" for number in range(4)],
        rows=lambda split, lang: rows[lang],
        features=lambda split, kind: features[kind],
        usable=lambda split, lang: np.arange(len(stub.rows(split, lang))),
    )
    for module in (convergence, attention):
        monkeypatch.setattr(module, "Corpus", lambda folder: stub)
    return stub


@pytest.fixture
def run(tmp_path, new_encoder, captions_of_tokens, monkeypatch):
    """A run whose model after step i is the i-th random tower."""
    words = {f"{lang} {i}": ids for lang, ids in zip(sorted(LANGUAGES * 4), captions_of_tokens(12)) for i in range(4)}
    encoders = [new_encoder(seed) for seed in range(3)]
    monkeypatch.setattr(type(encoders[0]), "tokenize", lambda self, texts, *lang: [words[text] for text in texts])
    for module in (convergence, attention):
        monkeypatch.setattr(module, "load_text_tower", lambda path, languages, device, **frozen: encoders[path])
    return SimpleNamespace(
        folder=tmp_path,
        name="run",
        corpus="corpus",
        languages=LANGUAGES,
        protocol=SimpleNamespace(in_order=True),
        checkpoint=lambda step: step,
        final_checkpoint=lambda: 2,
        steps=[StepFolder(tmp_path / f"{i:02}-{lang}") for i, lang in enumerate(LANGUAGES)],
        encoders=encoders,
    )


def data_of(run, corpus, **options):
    return convergence.TrainingCaptions.read(corpus, run.encoders[2], LANGUAGES, options.get("limit"), 5)


def test_captions_without_an_english_sentence_are_left_out(run, corpus):
    data = data_of(run, corpus)
    assert len(data.tokens) == len(data.rows) == 11 and data.rows[:, 1].min() >= 0
    expected = [row for lang in LANGUAGES for row in corpus.rows("train", lang).tolist() if row[1] >= 0]
    assert data.rows.tolist() == expected
    assert len(data_of(run, corpus, limit=2).tokens) == 6
    corpus.rows = lambda split, lang: np.array([[0, -1]])
    corpus.captions = lambda split, lang: ["en 0"]
    with pytest.raises(UserError, match="corpus: no training caption of en, de, ru has an English sentence"):
        data_of(run, corpus)


def test_convergence_is_of_the_final_model_on_all_languages(run, corpus):
    found = convergence.analyse_convergence(run, [0, 0.1], draws=2, batch_size=4, seed=5)
    data, encoder = data_of(run, corpus), run.encoders[2]
    batches = data.batches(4, 5)
    assert (found["captions"], found["batches"]) == (11, 2)
    still, noisy = found["noise"]
    assert still == {"std": 0, **average_loss(encoder, data, batches)}
    losses = []
    for seed in (5, 6):
        with weight_noise(encoder.network.text, 0.1, seed):
            losses.append(average_loss(encoder, data, batches))
    assert noisy == {"std": 0.1, **{name: np.mean([loss[name] for loss in losses]) for name in losses[0]}}
    parts = fisher_diagonal_sums(encoder, data, batches)
    assert found["fisher_by_parameter"] == parts and found["fisher_trace"] == sum(parts.values())
    names = {path.name for path in (run.folder / "analysis" / "convergence").glob("[a-z]*.json")}
    assert names == {"settings.json", "noise-0-0.json", "noise-0.1-0.json", "noise-0.1-1.json", "fisher.json"}
    assert "fisher_trace" not in convergence.analyse_convergence(run, [0], fisher=False, batch_size=4, seed=5)


def test_convergence_goes_on_where_it_was_with_the_same_settings_only(run, corpus, monkeypatch):
    options = dict(noise=[0, 0.1], batch_size=4, seed=5)
    first = convergence.analyse_convergence(run, **options)
    monkeypatch.setattr(convergence, "batch_losses", None)
    assert convergence.analyse_convergence(run, **options) == first
    for changed in ({"batch_size": 3}, {"seed": 6}, {"max_captions": 2}):
        with pytest.raises(UserError, match=f"other settings .*{next(iter(changed))} is"):
            convergence.analyse_convergence(run, **{**options, **changed})


def test_attention_drifts_from_each_language_s_model_to_the_last(run, corpus):
    found = attention.attention_drift(run, seed=5)
    assert list(found) == ["en", "de"]
    for step, lang in enumerate(found):
        captions = corpus.captions("train", lang)
        assert found[lang] == attention.drift_of_captions(run.encoders[step], run.encoders[2], captions)
        kept = run.folder / "analysis" / "attention" / f"{step:02}-{lang}.json"
        assert json.loads(kept.read_text()) == found[lang]
    run.encoders[0].network = None  # what is done is not done again
    assert attention.attention_drift(run, seed=5) == found
    with pytest.raises(UserError, match="other settings .*max_captions is None there, 2 here"):
        attention.attention_drift(run, max_captions=2, seed=5)


@pytest.mark.parametrize("languages, in_order", [(["en"], True), (LANGUAGES, False)])
def test_attention_needs_a_sequence(run, corpus, languages, in_order):
    run.languages, run.protocol.in_order = languages, in_order
    with pytest.raises(UserError, match="along a sequence of at least two languages; this is none"):
        attention.attention_drift(run)
