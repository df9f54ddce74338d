"""mlvl-fuse on a run's checkpoint, and mlvl-analyse on the run."""

import json
import logging
import shutil

import numpy as np
import pytest
import torch

from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.inference.encoder import Encoder

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def runs(learn, tmp_path_factory):
    """Finished runs over two languages with two methods."""
    folder = tmp_path_factory.mktemp("protocols")
    return [learn(folder / method, method, "en,de") for method in ("cll_clip", "cll_clip_with_teir")]


@pytest.fixture
def fuse(runs, teacher, world):
    """mlvl-fuse's arguments: German by the run's last model, English by the teacher."""
    german = ["--checkpoint", runs[0] / "01-de" / "checkpoint_best.pt", "--captions", world / "test.de.json"]
    english = ["--english-checkpoint", teacher, "--english-captions", world / "test.en.json"]
    return [*german, "--lang", "de", *english, "--image-root", world / "images"]


def test_translate_test_and_fusion(succeed, fuse, runs, teacher, world, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        printed = succeed("mlvl-fuse", *fuse, "--json", tmp_path / "fusion.json", "--plot", tmp_path / "fusion.png")
    assert f"wrote {tmp_path / 'fusion.json'} {tmp_path / 'fusion.png'}" in caplog.text
    result = json.loads((tmp_path / "fusion.json").read_text(encoding="utf-8"))
    rows = {(row["fusion"], row["eta"]): row for row in result["scores"]}
    assert len(rows) == 22 and "|lang:de+en|" in result["signature"] and "|texts:24|" in result["signature"]
    for lang, eta, model in (("en", 1.0, teacher), ("de", 0.0, runs[0] / "01-de" / "checkpoint_best.pt")):
        options = ["--captions", world / f"test.{lang}.json", "--image-root", world / "images"]
        alone = json.loads(succeed("mlvl-evaluate", "--checkpoint", model, "--lang", lang, *options))
        for fusion in ("score", "feature"):
            assert {key: rows[fusion, eta][key] for key in alone if key != "signature"} == {
                key: value for key, value in alone.items() if key != "signature"
            }
    assert (tmp_path / "fusion.png").read_bytes().startswith(PNG)
    table = [line for line in printed.splitlines() if line.startswith(("| score", "| feature"))]
    assert len(table) == 22 and f"{rows['score', 0.3]['r_mean']:.1f} |" in table[3]


def test_translations_in_the_caption_file(succeed, runs, world, tmp_path):
    """Triplets hold the English sentences; one model for both."""
    options = ["--captions", world / "train.vision-en-de.tsv", "--lang", "de", "--image-root", world / "images"]
    model = ["--checkpoint", runs[0] / "01-de" / "checkpoint_best.pt", "--fusion", "feature", "--eta", "0", "1"]
    succeed("mlvl-fuse", *model, *options, "--json", tmp_path / "fusion.json")
    result = json.loads((tmp_path / "fusion.json").read_text(encoding="utf-8"))
    assert [(row["fusion"], row["eta"]) for row in result["scores"]] == [("feature", 0), ("feature", 1)]


@pytest.mark.parametrize(
    "more, named",
    [
        (["--english-captions", "{world}/valid.en.json"], "give their translations"),
        (["--eta", "2"], "eta must be within 0 and 1"),
        (["--image-features", "x.npy"], "either --image-root DIR or --image-features"),
    ],
)
def test_wrong_fusions(run, fuse, world, more, named):
    assert named in run("mlvl-fuse", *fuse, *[option.format(world=world) for option in more]).error


def test_attention(succeed, runs, corpus, tmp_path, caplog):
    options = ["--max-captions", 20, "--output", tmp_path]
    with caplog.at_level(logging.INFO):
        printed = succeed("mlvl-analyse", "attention", *runs, *options)
    assert "wrote " + " ".join(str(tmp_path / f"attention.{kind}") for kind in ("md", "json", "png")) in caplog.text
    found = json.loads((tmp_path / "attention.json").read_text(encoding="utf-8"))
    assert list(found) == ["cll_clip", "cll_clip_with_teir"] and all(list(drift) == ["en"] for drift in found.values())
    for drift in found.values():
        assert drift["en"]["captions"] == 20 and np.isfinite(drift["en"]["kl"]) and drift["en"]["kl"] != 0
    assert (tmp_path / "attention.png").read_bytes().startswith(PNG)
    assert f"{found['cll_clip']['en']['kl']:.4g}" in printed
    assert (tmp_path / "attention.md").read_text(encoding="utf-8") == printed
    tokens = Encoder.load(runs[0] / "00-en" / "checkpoint_best.pt").tokenize(Corpus(corpus).captions("train", "en"))
    succeed("mlvl-analyse", "attention", runs[0], "--seed", 1, *options)  # found again, not computed
    assert json.loads((tmp_path / "attention.json").read_text(encoding="utf-8"))["cll_clip"] == found["cll_clip"]
    assert 20 * min(map(len, tokens)) <= found["cll_clip"]["en"]["tokens"] <= 20 * max(map(len, tokens))


def test_convergence(succeed, runs, tmp_path):
    options = ["--max-captions", 24, "--batch-size", 16, "--noise", "0.05", "0", "--noise-draws", 2]
    printed = succeed("mlvl-analyse", "convergence", *runs, *options, "--output", tmp_path)
    found = json.loads((tmp_path / "convergence.json").read_text(encoding="utf-8"))
    for result in found.values():
        assert (result["captions"], result["batches"]) == (48, 3)
        assert [row["std"] for row in result["noise"]] == [0, 0.05]
        still, noisy = result["noise"]
        assert still["loss"] == pytest.approx(still["cross_lingual"] + 0.01 * still["cross_modal"])
        assert noisy["loss"] != still["loss"]
        assert result["fisher_trace"] == pytest.approx(sum(result["fisher_by_parameter"].values()))
        assert {"token_embedding.weight", "positional_embedding"} <= result["fisher_by_parameter"].keys()
    assert f"{found['cll_clip']['fisher_trace']:.4g}" in printed
    assert (tmp_path / "convergence.png").read_bytes().startswith(PNG)
    parts = {path.name for path in (runs[0] / "analysis" / "convergence").glob("[nf]*.json")}
    assert parts == {"noise-0-0.json", "noise-0.05-0.json", "noise-0.05-1.json", "fisher.json"}


def test_captions_are_those_of_the_corpus(runs, corpus):
    """The rows that an analysis reads: image and English sentence of each caption, in the corpus's features."""
    from mlvl_fairseq.continual.analyses.convergence import TrainingCaptions

    encoder, folder = Encoder.load(runs[0] / "01-de" / "checkpoint_best.pt"), Corpus(corpus)
    data = TrainingCaptions.read(folder, encoder, ["en", "de"], None, seed=1)
    captions = folder.captions("train", "en") + folder.captions("train", "de")
    assert data.tokens == encoder.tokenize(captions)
    english = Encoder.load(json.loads((runs[0] / "run.json").read_text())["init_from"])
    image_row, english_row = data.rows[-1]
    torch.testing.assert_close(data.images[image_row], folder.features("train", "image")[image_row])
    expected = english.encode_texts([folder.english("train")[english_row]])[0]
    np.testing.assert_allclose(data.english[english_row], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options, named",
    [
        (["attention", "{run}", "--max-captions", "21"], "other settings (max_captions is 20 there, 21 here)"),
        (["attention", "{run}/scores"], "give the folder of an mlvl-cll run"),
        (["attention", "{run}", "{run}"], "--output DIR"),
        (["attention", "{run}", "--max-captions", "20", "--device", "xyz"], "--device xyz: Expected one of cpu"),
        (["attention", "{run}", "--seed", "-1"], "--seed: -1 is not a whole number of at least 0"),
        (["convergence", "{run}", "--noise", "nan"], "--noise: nan is no standard deviation"),
        (
            ["convergence", "{run}", "--max-captions", "24", "--batch-size", "16", "--noise", "1e30"],
            "--noise 1e+30: the loss is not finite",
        ),
        (["segmentation", "{run}", "--split", "dev"], "no dev captions in language 'en'"),
    ],
)
def test_wrong_analyses(run, succeed, runs, options, named, tmp_path):
    succeed("mlvl-analyse", "attention", runs[0], "--max-captions", 20, "--output", tmp_path)
    assert named in run("mlvl-analyse", *[option.format(run=runs[0]) for option in options]).error


def test_analyses_of_damaged_runs(run, runs, corpus, tmp_path):
    """Captions, rows and models that do not belong together: one line, not figures."""
    damaged, data = shutil.copytree(runs[0], tmp_path / "run"), shutil.copytree(corpus, tmp_path / "corpus")
    shutil.rmtree(damaged / "analysis", ignore_errors=True)
    settings = json.loads((damaged / "run.json").read_text())
    (damaged / "run.json").write_text(json.dumps({**settings, "corpus": str(data)}))
    rows, captions = data / "captions" / "train.en.rows.npy", data / "captions" / "train.en.txt"
    kept = np.load(rows), captions.read_text(encoding="utf-8")
    for wrong in (10**6, -2):
        np.save(rows, np.full_like(kept[0], wrong))
        assert "train.en.rows.npy: points to images or English" in run("mlvl-analyse", "convergence", damaged).error
    np.save(rows, kept[0])
    for text, number in (("", 0), ("a\nb\n", 2)):
        captions.write_text(text)
        for analysis in ("attention", "convergence", "segmentation"):
            error = run("mlvl-analyse", analysis, damaged).error
            assert f"train.en.txt: has {number} lines, not the {len(kept[0])} of corpus.json" in error
    captions.write_text(kept[1], encoding="utf-8")
    shutil.copy(damaged / "01-de" / "checkpoint_best.pt", damaged / "00-en" / "checkpoint_best.pt")
    assert "has learned en here, this one en,de" in run("mlvl-analyse", "attention", damaged).error
    shutil.copy(settings["init_from"], damaged / "01-de" / "checkpoint_best.pt")
    assert "has learned en,de here, this one none" in run("mlvl-analyse", "convergence", damaged).error
