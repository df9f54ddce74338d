"""Adapters and prompts through the real command lines: two languages, a restart, evaluation by language."""

import numpy as np
import pytest
import torch

from mlvl_fairseq.checkpoints.comparison import differing
from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file
from mlvl_fairseq.inference import Encoder
from mlvl_fairseq.modules.adapters import ADAPTERS
from mlvl_fairseq.modules.adapters.base import LanguageAdapter

KINDS = sorted(ADAPTERS)
CAPTIONS = ["ein roter Ball", "zwei blaue Dreiecke", "ein Haus"]
UPDATES = 7


@pytest.fixture(scope="module")
def train(cll, succeed, tmp_path_factory):
    """``train("de", "en", ...)``: fairseq-train for one language; gives the folder of its checkpoints."""

    def language(lang, learned, *more, folder=None):
        folder = folder or tmp_path_factory.mktemp(lang)
        succeed("fairseq-train", *cll(lang, learned), "--max-epoch", 1, "--save-dir", folder, *more)
        return folder

    return language


@pytest.fixture(scope="module")
def runs(train):
    """``runs("lora")``: folders of English and German, learned one after the other, each trained once."""
    done = {}

    def folders(kind):
        if kind not in done:
            english = train("en", None, "--adapter", kind)
            start = ["--finetune-from-model", english / "checkpoint_best.pt"]
            done[kind] = english, train("de", "en", "--adapter", kind, *start)
        return done[kind]

    return folders


def adapter_of(folder):
    state = load_checkpoint_file(folder / "checkpoint_best.pt")["model"]
    return {name.removeprefix("adapter."): value for name, value in state.items() if name.startswith("adapter.")}


@pytest.mark.parametrize("kind", KINDS)
def test_the_second_language_leaves_the_first_one_s_part_alone(runs, kind):
    english, german = map(adapter_of, runs(kind))
    assert {name.split(".")[1] for name in german if name.startswith("parts.")} == {"0", "1"}
    kept = {name: value for name, value in english.items() if name.startswith("parts.") and name in german}
    assert all(german[name].equal(value) for name, value in kept.items())
    assert bool(kept) == (kind != "prefix")  # of which only keys and values stay
    assert all(value.isfinite().all() for value in german.values())


@pytest.mark.parametrize("kind", KINDS)
def test_the_language_chooses_at_evaluation(runs, kind):
    encoder = Encoder.load(runs(kind)[1] / "checkpoint_best.pt")
    features = {lang: encoder.encode_texts(CAPTIONS, lang) for lang in ("en", "de", "nl")}
    encoder.network.adapter = None
    bare = encoder.encode_texts(CAPTIONS)
    same = not issubclass(ADAPTERS[kind], LanguageAdapter)
    assert np.array_equal(features["en"], features["de"]) == same
    assert np.array_equal(features["nl"], bare) != same
    assert np.abs(features["de"] - bare).max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_a_restart_in_the_middle_of_a_language_is_exact(runs, train, kind, tmp_path):
    english, german = runs(kind)
    options = ["--adapter", kind, "--finetune-from-model", english / "checkpoint_best.pt"]
    train("de", "en", *options, "--max-update", 3, folder=tmp_path)
    stopped = load_checkpoint_file(tmp_path / "checkpoint_last.pt")
    assert stopped["optimizer_history"][-1]["num_updates"] == 3
    train("de", "en", *options, folder=tmp_path)
    assert differing(tmp_path / "checkpoint_last.pt", german / "checkpoint_last.pt") == []
    whole = load_checkpoint_file(german / "checkpoint_last.pt")
    assert whole["optimizer_history"][-1]["num_updates"] == UPDATES
    moved = [n for n in whole["model"] if n.startswith("adapter.") and not whole["model"][n].equal(stopped["model"][n])]
    assert moved and all(name.startswith(("adapter.parts.1.", "adapter.shared")) for name in moved)


def test_fingerprints_tell_adapters_and_their_options_apart(runs, tmp_path):
    path = runs("lora")[1] / "checkpoint_best.pt"
    state = load_checkpoint_file(path)
    state["cfg"]["model"]["lora_alpha"] = 4.0
    torch.save(state, tmp_path / "other.pt")
    fingerprints = {Encoder.load(path).fingerprint for path in (path, path, tmp_path / "other.pt")}
    assert len(fingerprints) == 2


def test_other_adapters_between_languages_are_refused(runs, run, cll, tmp_path):
    english = runs("lora")[0] / "checkpoint_best.pt"
    for options, message in [
        (["--adapter", "prefix"], "does not fit --adapter prefix with these options"),
        (["--adapter", "lora", "--lora-rank", 4], "does not fit --adapter lora with these options"),
        ([], "was trained with an adapter: give the same --adapter"),
    ]:
        line = [*cll("de", "en"), "--finetune-from-model", english, "--save-dir", tmp_path, *options]
        assert message in run("fairseq-train", *line).error


def test_published_dual_prompts_decay_with_every_step(train, tmp_path):
    """Quirk of the published code: those of other languages, learned or to come, lose lr * decay at every update."""
    options = ["--adapter", "dual_prompt", "--dual-past", "decay", "--dual-pool", 4, "--dual-depth", 4]
    options += ["--prompt-mask", "published", "--lr", "1e-2", "--weight-decay", 0.5]
    english = train("en", None, *options)
    german = train("de", "en", *options, "--finetune-from-model", english / "checkpoint_best.pt")
    before, after = adapter_of(english), adapter_of(german)
    warm_up = [min(1, update / 2) for update in range(UPDATES)]
    factor = np.prod([1 - 1e-2 * 0.5 * rate for rate in warm_up])
    for name, value in before.items():
        if name.startswith("parts.") and not name.startswith("parts.1."):
            torch.testing.assert_close(after[name], value * factor, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(after["parts.1.prompts"], before["parts.1.prompts"] * factor, rtol=1e-3)


def test_published_components_stay_as_drawn(train):
    folder = train("en", None, "--adapter", "coda_prompt", "--coda-train", "none")
    keys = adapter_of(folder)["parts.0.keys"][0].double()
    torch.testing.assert_close(keys @ keys.T, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-6)
