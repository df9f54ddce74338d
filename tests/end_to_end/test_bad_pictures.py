"""Pictures that cannot be read take part in nothing: everything is as if their captions had never been there."""

import json
import shutil

import numpy as np
import pytest
import torch

from mlvl_fairseq.data.features import FeatureWriter, open_features

BAD = {"train": [3, 7, 8, 41], "valid": [5], "test": [0, 9]}  # rows of images
TEST_IMAGES = 12


def write_features(stem, names, features, bad=()):
    for ending in (".npy", ".json"):
        stem.with_name(stem.name + ending).unlink(missing_ok=True)
    with FeatureWriter(stem, names, features.shape[1], "teacher", "w") as writer:
        writer.write(features, bad)


def lines(path):
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def write_lines(path, texts):
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")


@pytest.fixture
def with_bad(corpus, tmp_path):
    """The corpus, some of whose pictures could not be read when the teacher looked at them."""
    folder = shutil.copytree(corpus, tmp_path / "with_bad")
    for split, bad in BAD.items():
        lists = {"image": folder / "images" / f"{split}.txt", "text": folder / "captions" / f"{split}.english.txt"}
        for kind, names in lists.items():
            stem = folder / "features" / f"{split}.{kind}"
            write_features(stem, lines(names), np.array(open_features(stem)), bad if kind == "image" else ())
    return folder


@pytest.fixture
def without(with_bad, tmp_path):
    """The same corpus without these pictures, their captions, and English sentences that only those had."""
    folder = shutil.copytree(with_bad, tmp_path / "without")
    for counts in folder.glob("bin/*/english_counts.npy"):
        counts.unlink()
    for binarized in folder.glob("bin/*/*/"):
        shutil.rmtree(binarized)
    manifest = json.loads((folder / "corpus.json").read_text())
    for split, bad in BAD.items():
        captions = folder / "captions"
        langs = manifest["splits"][split]["captions"]
        rows = {lang: np.load(captions / f"{split}.{lang}.rows.npy") for lang in langs}
        kept = {lang: [row for row, image in enumerate(rows[lang][:, 0]) if image not in bad] for lang in langs}
        images, english = lines(folder / "images" / f"{split}.txt"), lines(captions / f"{split}.english.txt")
        good = [row for row in range(len(images)) if row not in bad]
        used = sorted({int(rows[lang][row, 1]) for lang in langs for row in kept[lang]} - {-1})
        for kind, left, names in (("image", good, images), ("text", used, english)):
            stem = folder / "features" / f"{split}.{kind}"
            write_features(stem, [names[row] for row in left], np.array(open_features(stem))[left])
        write_lines(folder / "images" / f"{split}.txt", [images[row] for row in good])
        write_lines(captions / f"{split}.english.txt", [english[row] for row in used])
        for lang in langs:
            texts = lines(captions / f"{split}.{lang}.txt")
            write_lines(captions / f"{split}.{lang}.txt", [texts[row] for row in kept[lang]])
            numbers = [
                [good.index(image), used.index(text) if text >= 0 else -1] for image, text in rows[lang][kept[lang]]
            ]
            np.save(captions / f"{split}.{lang}.rows.npy", np.array(numbers, np.int32))
            langs[lang] = len(kept[lang])
        manifest["splits"][split].update(images=len(good), english=len(used))
    (folder / "corpus.json").write_text(json.dumps(manifest))
    return folder


def tensors(checkpoint):
    return torch.load(checkpoint, weights_only=False)["model"]


def test_a_sequence_is_that_of_a_corpus_without_them(with_bad, without, succeed, sequence_options, tmp_path, caplog):
    runs = {}
    for corpus in (with_bad, without):
        runs[corpus] = tmp_path / f"run-{corpus.name}"
        method = ["--method", "er_with_teir", "--memory-size", 20, "--grad-scale-type", "usage_share"]
        succeed("mlvl-cll", corpus, runs[corpus], *method[:2], "--order", "en,de", *sequence_options, *method[2:])
    for step in ("00-en", "01-de"):
        mine, theirs = (tensors(runs[corpus] / step / "checkpoint_best.pt") for corpus in (with_bad, without))
        assert mine.keys() == theirs.keys()
        assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []
    for score in (runs[without] / "scores").glob("*/*.json"):
        expected = json.loads(score.read_text())
        found = json.loads((runs[with_bad] / score.relative_to(runs[without])).read_text())
        assert found.pop("left_out") == {"images": ["test/00000.png", "test/00009.png"], "texts": 4}
        assert found == expected and f"images:{TEST_IMAGES - 2}|texts:{2 * TEST_IMAGES - 4}|" in found["signature"]
    succeed("mlvl-report", runs[with_bad])
    assert "images that cannot be used are left out (en: 2 images, 4 texts; de: 2 images, 4 texts)" in caplog.text


def damage(folder, names):
    for name in names:
        path = folder / name
        path.write_bytes(path.read_bytes()[:100])


@pytest.fixture
def bad_world(world, tmp_path):
    """The pictures and captions of the world; some test pictures are truncated, and captions without those."""
    folder = shutil.copytree(world, tmp_path / "world")
    rows = json.loads((folder / "test.de.json").read_text())
    bad = [rows[row]["image"] for row in BAD["test"]]
    damage(folder / "images", bad)
    (folder / "good.de.json").write_text(json.dumps([row for row in rows if row["image"] not in bad]))
    return folder


def test_an_evaluation_is_that_of_captions_without_them(bad_world, corpus, teacher, run, succeed, tmp_path, caplog):
    model = ["--checkpoint", teacher, "--image-root", bad_world / "images"]
    files = {name: ["--captions", bad_world / f"{name}.de.json", "--lang", "de"] for name in ("test", "good")}
    assert "00000.png: cannot be decoded" in run("mlvl-evaluate", *model, *files["test"]).error
    expected = json.loads(succeed("mlvl-evaluate", *model, *files["good"]))
    folder = ["--output-dir", tmp_path / "scores", "--bad-image", "skip"]
    ended = run("mlvl-evaluate", *model, *files["test"], *folder)
    assert "de: 2 images that cannot be used are left out, with their 4 captions: test/00000.png" in caplog.text
    found = json.loads(ended.out)
    assert found.pop("left_out") == {"images": ["test/00000.png", "test/00009.png"], "texts": 4} and found == expected
    again = json.loads(succeed("mlvl-evaluate", *model, *files["test"], *folder))
    assert again == json.loads(ended.out)
    refused = run("mlvl-evaluate", *model, *files["test"], *folder[:2])
    assert "de.test.json holds scores without 2 images that could not be used" in refused.error
    assert (
        "--max-bad-images allows 1"
        in run("mlvl-evaluate", *model, *files["test"], "--bad-image", "skip", "--max-bad-images", 1).error
    )


def test_given_features_that_say_nothing_leave_an_evaluation(world, corpus, teacher, run, succeed, tmp_path):
    rows = json.loads((world / "test.de.json").read_text())
    names = [row["image"] for row in rows]
    features = np.random.default_rng(0).normal(size=(len(names), 32)).astype(np.float32)
    features[2], features[4], features[7] = 0, 3, np.nan
    np.save(tmp_path / "f.npy", features)
    write_lines(tmp_path / "f.txt", names)
    (tmp_path / "good.json").write_text(json.dumps([row for i, row in enumerate(rows) if i not in (2, 4, 7)]))
    model = ["--checkpoint", teacher, "--lang", "de"]
    given = ["--image-features", tmp_path / "f.npy", "--image-list", tmp_path / "f.txt"]
    pictures = run("mlvl-evaluate", *model, "--captions", world / "test.de.json", *given).error
    assert f"the feature of '{names[2]}' is zero (--bad-image skip" in pictures
    fuse = ["--english-captions", world / "test.en.json", "--eta", 0.5, "--json"]
    for command, more in (("mlvl-evaluate", ["--json"]), ("mlvl-fuse", fuse)):
        results = []
        for captions, options in ((world / "test.de.json", ["--bad-image", "skip"]), (tmp_path / "good.json", [])):
            english = [*more]
            if command == "mlvl-fuse" and not options:
                en = json.loads((world / "test.en.json").read_text())
                (tmp_path / "good.en.json").write_text(json.dumps([r for i, r in enumerate(en) if i not in (2, 4, 7)]))
                english[1] = tmp_path / "good.en.json"
            succeed(command, *model, "--captions", captions, *given, *options, *english, tmp_path / "out.json")
            results.append(json.loads((tmp_path / "out.json").read_text()))
        assert results[0].pop("left_out") == {"images": [names[2], names[4], names[7]], "texts": 6}
        assert results[0] == results[1]


def test_training_on_pictures_leaves_bad_ones_out(corpus, world, run, teacher_options, tmp_path, caplog):
    pictures = shutil.copytree(world / "images", tmp_path / "images")
    names = lines(corpus / "images" / "train.txt")
    damage(pictures, [names[4], names[9]])
    options = [corpus, *teacher_options, "--image-root", pictures, "--max-epoch", 1, "--save-dir", tmp_path / "t"]
    assert "cannot be decoded" in run("fairseq-train", *options).error
    ended = run("fairseq-train", *options, "--bad-image", "skip")
    assert ended.status == 0
    assert (
        f"train: 2 images have no usable features ({names[4]}, {names[9]}); captions left out: 4 in en" in caplog.text
    )
