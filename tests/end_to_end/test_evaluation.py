"""mlvl-evaluate on a run's checkpoints, and mlvl-report on the run."""

import json
import logging

import numpy as np
import pytest

from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.inference.encoder import Encoder

KEYS = ["txt_r1", "txt_r5", "txt_r10", "img_r1", "img_r5", "img_r10", "r_mean", "signature"]


@pytest.fixture(scope="module")
def trained(learn, tmp_path_factory):
    """A finished run over two languages."""
    return learn(tmp_path_factory.mktemp("runs") / "run", "cll_clip_with_teir_update", "en,de")


@pytest.fixture
def evaluate(succeed, world, trained):
    """The scores that mlvl-evaluate prints for the last checkpoint, on German test captions unless told otherwise."""

    def scores(*options, captions=world / "test.de.json", checkpoint=trained / "01-de" / "checkpoint_best.pt"):
        command = ["--checkpoint", checkpoint, "--captions", captions, "--lang", "de"]
        return json.loads(succeed("mlvl-evaluate", *command, *options))

    return scores


@pytest.fixture
def pictures(world):
    return ["--image-root", world / "images"]


@pytest.fixture
def features(corpus):
    """Options that give the teacher's features instead of pictures."""
    return ["--image-features", corpus / "features" / "test.image.npy", "--image-list", corpus / "images" / "test.txt"]


def test_scores_are_those_that_the_sequence_wrote(evaluate, pictures, features, trained, read_json, tmp_path):
    scores = evaluate(*pictures, "--json", tmp_path / "scores.json")
    assert list(scores) == KEYS
    assert scores == read_json(tmp_path / "scores.json") == read_json(trained / "scores" / "01-de" / "de.test.json")
    assert scores == evaluate(*features)
    assert scores["r_mean"] == pytest.approx(np.mean([scores[key] for key in KEYS[:6]]))


def test_signature_says_how_it_was_computed(evaluate, pictures, world):
    parts = dict(part.split(":") for part in evaluate(*pictures)["signature"].split("|"))
    assert {key: parts[key] for key in ("split", "lang", "images", "texts", "tok", "maxlen", "ties", "folds")} == {
        "split": "test", "lang": "de", "images": "12", "texts": "24", "tok": "clip-bpe", "maxlen": "77",
        "ties": "index", "folds": "1",
    }  # fmt: skip
    other = evaluate(*pictures, "--split", "valid", captions=world / "valid.de.json")["signature"]
    assert "|split:valid|" in other and parts["data"] not in other


def test_scores_follow_from_the_features(evaluate, pictures, trained, world, corpus):
    """Recall by the definition, in float64, from what the Python interface encodes."""
    rows = json.loads((world / "test.de.json").read_text(encoding="utf-8"))
    captions = [(image, caption) for image, row in enumerate(rows) for caption in row["caption"]]
    encoder = Encoder.load(trained / "01-de" / "checkpoint_best.pt")
    text = encoder.encode_texts([caption for _, caption in captions]).astype(np.float64)
    names = (corpus / "images" / "test.txt").read_text().splitlines()
    image = np.load(corpus / "features" / "test.image.npy").astype(np.float64)[[names.index(r["image"]) for r in rows]]
    cosine = unit(image) @ unit(text).T
    owner = np.array([row for row, _ in captions])
    images_found = [(cosine[:, t] > cosine[owner[t], t]).sum() for t in range(len(owner))]
    texts_found = [(cosine[i] > cosine[i, owner == i].max()).sum() for i in range(len(rows))]
    scores = evaluate(*pictures)
    for k in (1, 5, 10):
        assert scores[f"img_r{k}"] == pytest.approx(100 * np.mean(np.array(images_found) < k))
        assert scores[f"txt_r{k}"] == pytest.approx(100 * np.mean(np.array(texts_found) < k))


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_collapsed_model_scores_chance(evaluate, corpus, tmp_path):
    """All images alike: without a rule for ties every one of them would come first."""
    np.save(tmp_path / "same.npy", np.tile(np.arange(32, dtype=np.float32), (12, 1)))
    images = corpus / "images" / "test.txt"
    scores = evaluate("--image-features", tmp_path / "same.npy", "--image-list", images)
    assert [scores[f"img_r{k}"] for k in (1, 5, 10)] == pytest.approx([100 * k / 12 for k in (1, 5, 10)])
    assert scores["txt_r1"] == pytest.approx(100 / 12) and scores["txt_r10"] <= 100 * 10 / 12


def test_folds_are_averaged(evaluate, pictures, world, tmp_path):
    rows = json.loads((world / "test.de.json").read_text(encoding="utf-8"))
    folds = []
    for fold in (rows[:4], rows[4:8], rows[8:]):
        (tmp_path / "fold.json").write_text(json.dumps(fold))
        folds.append(evaluate(*pictures, captions=tmp_path / "fold.json"))
    scores = evaluate(*pictures, "--n-fold", 3)
    assert "|folds:3|" in scores["signature"]
    assert [scores[key] for key in KEYS[:7]] == pytest.approx([np.mean([f[key] for f in folds]) for key in KEYS[:7]])


def test_teacher_is_evaluated_with_pictures(evaluate, pictures, features, teacher, world):
    """A checkpoint of the other task; its image tower gives the cached features."""
    english = {"captions": world / "test.en.json", "checkpoint": teacher}
    assert evaluate(*pictures, **english) == evaluate(*features, **english)


def test_language_that_was_never_learned(evaluate, pictures, world):
    assert list(evaluate(*pictures, captions=world / "test.ru.json")) == KEYS


@pytest.fixture
def evaluate_many(succeed, world, trained, pictures):
    """The scores that one mlvl-evaluate prints for several languages; Russian was never learned."""

    def scores(*options, lang="de,en,ru", captions=world / "test.{lang}.json"):
        command = ["--checkpoint", trained / "01-de" / "checkpoint_best.pt", "--captions", captions, "--lang", lang]
        return json.loads(succeed("mlvl-evaluate", *command, *pictures, "--format", "json", *options))

    return scores


@pytest.fixture
def uneven_captions(world, tmp_path):
    """Caption files of languages that describe different pictures, in different orders."""
    rows = {lang: json.loads((world / f"test.{lang}.json").read_text(encoding="utf-8")) for lang in ("en", "de", "ru")}
    for lang, chosen in (("en", rows["en"][:7]), ("de", rows["de"][::-1]), ("ru", rows["ru"][3::2])):
        (tmp_path / f"uneven.{lang}.json").write_text(json.dumps(chosen), encoding="utf-8")
    return tmp_path / "uneven.{lang}.json"


def test_languages_in_one_process_score_as_alone(evaluate_many, evaluate, pictures, uneven_captions, tmp_path):
    result = evaluate_many("--json", tmp_path / "all.json", "--n-fold", 2, captions=uneven_captions)
    assert list(result["languages"]) == ["de", "en", "ru"] and list(result) == ["languages", "average"]
    for lang, scores in result["languages"].items():
        captions = str(uneven_captions).replace("{lang}", lang)
        assert scores == evaluate(*pictures, "--lang", lang, "--n-fold", 2, captions=captions)
    for metric in KEYS[:7]:
        assert result["average"][metric] == pytest.approx(np.mean([s[metric] for s in result["languages"].values()]))
    parts = dict(part.split(":") for part in result["average"]["signature"].split("|"))
    assert (parts["lang"], parts["data"], parts["folds"], parts["split"]) == ("*", "*", "2", "test")
    assert json.loads((tmp_path / "all.json").read_text(encoding="utf-8")) == result


def test_several_languages_are_printed_as_a_table_and_written_as_json(run, world, teacher, pictures, tmp_path, caplog):
    command = ["--checkpoint", teacher, "--captions", world / "test.{lang}.json", "--lang", "de,en", *pictures]
    files = ["--json", tmp_path / "all.json", "--output-dir", tmp_path / "scores"]
    with caplog.at_level(logging.INFO):
        ended = run("mlvl-evaluate", *command, *files)
    result = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in ended.out.splitlines()[:5]]
    assert rows[0] == ["", *KEYS[:7]] and len(rows) == 5
    for name, row in zip(("de", "en", "average"), rows[2:]):
        scores = {**result["languages"], "average": result["average"]}[name]
        assert row == [name, *(f"{scores[metric]:.1f}" for metric in KEYS[:7])]
    assert ended.out.splitlines()[5:] == ["", f"signature: {result['average']['signature']}"]
    assert f"wrote {tmp_path / 'all.json'} {tmp_path / 'scores'}/*.test.json" in caplog.text


def test_a_run_is_no_model(run, trained, world, pictures):
    command = ["--checkpoint", trained, "--captions", world / "test.de.json", "--lang", "de", *pictures]
    message = f"is a run of mlvl-cll, not a model; its last model is {trained / '01-de' / 'checkpoint_best.pt'}"
    assert message in run("mlvl-evaluate", *command).error
    assert message in run("mlvl-fuse", *command).error


@pytest.fixture
def count_calls(monkeypatch):
    """How often images and texts were encoded since."""
    calls = []
    for name in ("encode_image_dataset", "encode_texts"):
        method = getattr(Encoder, name)

        def counted(self, *args, _name=name, _method=method, **options):
            calls.append(_name)
            return _method(self, *args, **options)

        monkeypatch.setattr(Encoder, name, counted)
    return calls


def test_finished_languages_are_not_repeated(evaluate_many, tmp_path, count_calls):
    results = tmp_path / "scores"
    first = evaluate_many("--output-dir", results)
    assert count_calls == ["encode_image_dataset", "encode_texts", "encode_texts", "encode_texts"]
    assert json.loads((results / "de.test.json").read_text(encoding="utf-8")) == first["languages"]["de"]
    (results / "en.test.json").unlink()  # as if it had been interrupted
    count_calls.clear()
    assert evaluate_many("--output-dir", results) == first
    assert count_calls == ["encode_image_dataset", "encode_texts"]
    count_calls.clear()
    assert evaluate_many("--output-dir", results) == first and not count_calls


def test_finished_languages_of_other_settings_are_refused(
    run, evaluate_many, world, trained, teacher, pictures, tmp_path
):
    results = tmp_path / "scores"
    evaluate_many("--output-dir", results, lang="de,en")
    models = [teacher, trained / "01-de" / "checkpoint_best.pt"]
    for model, more, named in (
        (models[0], [], "model is"),
        (models[1], ["--n-fold", 2], "n_fold is 1 there, 2 here"),
        (
            models[1],
            ["--captions", world / "valid.{lang}.json", "--image-root", world / "images"],
            "other data than",
        ),
    ):
        command = ["--checkpoint", model, "--captions", world / "test.{lang}.json", "--lang", "de,en", *pictures]
        ended = run("mlvl-evaluate", *command, "--output-dir", results, *more)
        assert named in ended.error and "choose another folder" in ended.error


@pytest.mark.parametrize(
    "lang, captions, named",
    [
        ("de,en", "test.de.json", "needs {lang} where the language stands"),
        ("de,xx", "test.{lang}.json", "test.xx.json"),
        ("de,de", "test.{lang}.json", "de occurs more than once"),
    ],
)
def test_wrong_languages(run, world, teacher, pictures, lang, captions, named):
    command = ["--checkpoint", teacher, "--captions", world / captions, "--lang", lang]
    assert named in run("mlvl-evaluate", *command, *pictures).error


@pytest.mark.parametrize(
    "options, named",
    [
        ([], "either --image-root DIR or --image-features"),
        (["--image-features", "x.npy"], "with --image-list"),
        (["--image-root", "nowhere"], "nowhere"),
        (["--image-root", "{images}", "--n-fold", "13"], "cannot cut 12 images into 13 folds"),
    ],
)
def test_wrong_options(run, world, teacher, options, named):
    options = [option.format(images=world / "images") for option in options]
    command = ["--checkpoint", teacher, "--captions", world / "test.en.json", "--lang", "en"]
    assert named in run("mlvl-evaluate", *command, *options).error


def test_features_of_another_dimension(run, world, teacher, corpus, tmp_path):
    np.save(tmp_path / "wide.npy", np.eye(12, 33, dtype=np.float32))
    images = ["--image-features", tmp_path / "wide.npy", "--image-list", corpus / "images" / "test.txt"]
    command = ["--checkpoint", teacher, "--captions", world / "test.en.json", "--lang", "en"]
    assert "takes image features of 32 dimensions, not 33" in run("mlvl-evaluate", *command, *images).error


def test_report_of_the_run(succeed, trained, read_json, tmp_path):
    printed = succeed("mlvl-report", trained, "--output", tmp_path)
    report = read_json(tmp_path / "report.json")["methods"]["cll_clip_with_teir_update"]
    assert report["languages"] == ["en", "de"]
    matrix = [
        [read_json(trained / "scores" / row / f"{lang}.test.json") for lang in languages]
        for row, languages in (("00-en", ["en"]), ("01-de", ["en", "de"]))
    ]
    for metric in KEYS[:7]:
        scores = [[score[metric] for score in row] for row in matrix]
        assert report["matrix"][metric] == scores
        assert report["AA"][metric] == pytest.approx(np.mean(scores[1]))
        assert report["F"][metric] == report["Fen"][metric] == pytest.approx(scores[0][0] - scores[1][0])
    assert "cll_clip_with_teir_update" in printed and (tmp_path / "report.md").exists()
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.glob("*.csv"))


@pytest.fixture(scope="module")
def scored(succeed, trained, teacher, world, tmp_path_factory):
    """Folders of scores in both languages: ``teacher``; ``last``, the run's last model; the same with other options."""
    folder = tmp_path_factory.mktemp("scores")
    last = trained / "01-de" / "checkpoint_best.pt"
    for name, checkpoint, *options in (
        ("teacher", teacher),
        ("last", last),
        ("folds", last, "--n-fold", 3),
        ("distinct/last", last, "--recall", "deduplicated"),
        ("distinct/teacher", teacher, "--recall", "deduplicated"),
    ):
        captions = ["--captions", world / "test.{lang}.json", "--lang", "en,de", "--image-root", world / "images"]
        succeed(
            "mlvl-evaluate", "retrieval", "--checkpoint", checkpoint, *captions, *options, "--output-dir", folder / name
        )
    return folder


def test_ranks_lie_beside_every_score(scored):
    """Recall by its definition from the ranks that were written."""
    for name in ("last", "folds", "distinct/last"):
        scores = json.loads((scored / name / "de.test.json").read_text(encoding="utf-8"))
        with np.load(scored / name / "de.test.ranks.npz") as ranks:
            owners, images, texts = (ranks[key] for key in ("text_to_image", "image_ranks", "text_ranks"))
        assert len(images) == 12 and len(texts) == len(owners) == 24
        queries = images[owners] if name == "distinct/last" else images
        for k in (1, 5, 10):  # folds of equal size: their average is that of all queries
            assert scores[f"txt_r{k}"] == pytest.approx(100 * np.mean(queries < k))
            assert scores[f"img_r{k}"] == pytest.approx(100 * np.mean(texts < k))


def test_report_of_models_and_a_run(succeed, scored, trained, read_json, tmp_path):
    folders = [trained, scored / "teacher", scored / "last", scored / "distinct"]
    pairs = [("last", "teacher"), ("cll_clip_with_teir_update", "last"), ("distinct/last", "distinct/teacher")]
    compare = [word for pair in pairs for word in ("--compare", *pair)]
    printed = succeed("mlvl-report", *folders, *compare, "--output", tmp_path, "--format", "json", "md", "csv")
    report = read_json(tmp_path / "report.json")
    own = read_json(scored / "last" / "de.test.json")
    assert report["methods"]["last"]["final"]["r_mean"]["de"]["mean"] == own["r_mean"]
    first, itself, distinct = report["comparisons"]
    scores = {
        name: [read_json(scored / name / f"{lang}.test.json") for lang in ("en", "de")] for name in ("last", "teacher")
    }
    expected = np.mean([mine["r_mean"] - theirs["r_mean"] for mine, theirs in zip(scores["last"], scores["teacher"])])
    assert first["AA"]["r_mean"]["difference"] == pytest.approx(expected, abs=1e-9)
    assert itself["AA"]["r_mean"] == {"difference": 0, "interval_95": [0, 0], "p_value": 1}, (
        "a run's last model is itself"
    )
    assert sorted(itself["languages"]) == ["de", "en"] and distinct["seeds"] == [None]
    assert "## last minus teacher" in printed and "## Final scores" in printed


def test_scores_of_folds_have_no_bootstrap(run, scored, tmp_path):
    command = [scored / "folds", scored / "last", "--output", tmp_path, "--format", "md"]
    error = run("mlvl-report", *command, "--compare", "folds", "last").error
    assert "scores on de are averages over 3 parts of the images: no paired bootstrap is defined of them" in error
    other = run("mlvl-report", scored, "--output", tmp_path, "--compare", "last", "distinct/teacher").error
    assert "on de they were scored in different ways (captions is any or deduplicated)" in other


def test_the_python_interface_encodes_both_sides(learn, teacher, corpus, world, tmp_path):
    """As README has it: a sequence's model takes pictures by the image tower it started from; nothing is normalised."""
    encoder = Encoder.load(learn(tmp_path / "run", "cll_clip", "en", "--max-update", 1) / "00-en/checkpoint_best.pt")
    names = Corpus(corpus).images("test")[:3]
    images = encoder.encode_image_files(world / "images", names)
    assert images.shape == (3, encoder.embed_dim) and images.dtype == np.float32
    np.testing.assert_allclose(images, Corpus(corpus).features("test", "image")[:3], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(encoder.encode_features(images), images)
    texts = encoder.encode_texts(["a red circle", "a dog"], lang="en")
    assert texts.shape == (2, encoder.embed_dim)
    lengths = np.linalg.norm(np.concatenate([images, texts]), axis=1)
    assert (np.abs(lengths - 1) > 0.01).all()
