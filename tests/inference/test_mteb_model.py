"""mteb's scores of a model are those of mlvl-evaluate, offline."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mlvl_fairseq import load_model
from mlvl_fairseq.errors import DataError

LANGUAGES, IMAGES = ("en", "de"), 24
WORDS = "red blue dog cat ball street snow house tree car two three ein der am see".split()


@pytest.fixture(scope="module")
def mteb():
    return pytest.importorskip("mteb", reason="mteb is not installed: pip install 'mlvl_fairseq[mteb]'")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """24 pictures, with one to three captions each, other ones in each language."""
    folder, rng = tmp_path_factory.mktemp("captions"), np.random.default_rng(0)
    for row in range(IMAGES):
        pixels = rng.integers(0, 256, (3, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((50, 40)).save(folder / f"{row}.png")
    for lang in LANGUAGES:
        captions = [[" ".join(rng.choice(WORDS, 4)) for _ in range(1 + row % 3)] for row in range(IMAGES)]
        rows = [{"image": f"{row}.png", "caption": texts} for row, texts in enumerate(captions)]
        (folder / f"test.{lang}.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture(scope="module")
def ours(run_here, small_clip, folder, tmp_path_factory):
    """Language -> what mlvl-evaluate says."""
    out = tmp_path_factory.mktemp("ours") / "scores.json"
    files = ["--captions", folder / "test.{lang}.json", "--image-root", folder]
    with pytest.raises(SystemExit) as exit:
        run_here("mlvl-evaluate", "--checkpoint", small_clip, "--lang", ",".join(LANGUAGES), *files, "--json", out)
    assert exit.value.code == 0
    return json.loads(out.read_text())["languages"]


def test_scores_are_those_of_mlvl_evaluate(mteb, ours, small_clip, folder):
    from mlvl_fairseq.integrations.mteb import MtebModel, caption_tasks

    model = MtebModel(small_clip)
    tasks = caption_tasks("Drawn", str(folder / "test.{lang}.json"), LANGUAGES, folder)
    found = mteb.evaluate(model, tasks, cache=None, show_progress_bar=False, encode_kwargs={"batch_size": 5})
    assert [result.task_name for result in found.task_results] == ["DrawnT2IRetrieval", "DrawnI2TRetrieval"]
    for result, direction in zip(found.task_results, ("img", "txt")):
        scores = {one["hf_subset"]: one for one in result.scores["test"]}
        assert scores.keys() == set(LANGUAGES)
        for lang in LANGUAGES:
            assert 0 < ours[lang][f"{direction}_r5"] < 100, "says something"
            for k in (1, 5, 10):
                theirs = 100 * scores[lang][f"hit_rate_at_{k}"]  # rounded to five digits, far less than a query's share
                assert theirs == pytest.approx(ours[lang][f"{direction}_r{k}"], abs=1e-3)
            assert scores[lang]["main_score"] == scores[lang]["hit_rate_at_1"]
    meta = model.mteb_model_meta
    assert (meta.name, meta.revision) == ("mlvl_fairseq/ViT-B-32.pt", load_model(small_clip).fingerprint)
    assert (meta.embed_dim, meta.max_tokens, set(meta.modalities)) == (512, 77, {"image", "text"})


def test_a_subset_is_the_language(mteb, small_clip, monkeypatch):
    from mlvl_fairseq.integrations.mteb import MtebModel

    loaded, asked = load_model(small_clip), []
    monkeypatch.setattr(
        loaded.encoder, "encode_texts", lambda texts, lang: asked.append(lang) or np.ones((len(texts), 512))
    )
    model = MtebModel(loaded, name="my model", languages={"deu-eng": "de"})
    for subset in ("fr", "deu-eng", "default"):
        model.encode([{"text": ["a", "b"]}, {"text": ["c"]}], task_metadata=None, hf_split="test", hf_subset=subset)
    assert asked == ["fr", "de", None] and model.mteb_model_meta.name == "mlvl_fairseq/my-model"


def test_texts_beside_pictures(mteb, small_clip, folder):
    from mlvl_fairseq.integrations.mteb import MtebModel

    model, image = load_model(small_clip), Image.open(folder / "0.png")
    both = [{"text": ["a dog"], "image": [image]}]
    found = MtebModel(model).encode(both, task_metadata=None, hf_split="test", hf_subset="default")
    np.testing.assert_allclose(found, model.encode_text(["a dog"]) + model.encode_image([image]), atol=1e-6)


def test_bad_files_are_told(mteb, folder):
    from mlvl_fairseq.integrations.mteb import caption_tasks

    with pytest.raises(DataError, match="test.fr.json"):
        caption_tasks("Drawn", str(folder / "test.{lang}.json"), ["fr"], folder)


def test_without_mteb_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb.abstasks", None)
    monkeypatch.delitem(sys.modules, "mlvl_fairseq.integrations.mteb", raising=False)
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace())
    with pytest.raises(ImportError, match=r"pip install 'mlvl_fairseq\[mteb\]'"):
        import mlvl_fairseq.integrations.mteb  # noqa: F401
