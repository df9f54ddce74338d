"""Several data sets in one corpus: joined from corpora of their own, told apart by the folders of their images."""

import json

import numpy as np
import pytest

from mlvl_fairseq.cli.prepare import main as prepare
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.corpus.data_sets import data_set_members, join_corpora
from mlvl_fairseq.data.features import FeatureWriter
from mlvl_fairseq.errors import UserError

CAPTIONS = {  # data set -> language -> (image, caption)
    "coco": {
        "en": [("1.jpg", "a dog"), ("1.jpg", "a brown dog"), ("2.jpg", "a cat")],
        "de": [("2.jpg", "eine Katze"), ("1.jpg", "ein Hund")],
        "fr": [("1.jpg", "un chien")],
    },
    "cc3m": {
        "en": [("1.jpg", "a red cup"), ("7.jpg", "a dog")],
        "de": [("7.jpg", "ein Hund"), ("1.jpg", "eine rote Tasse")],
        "fr": [("1.jpg", "une tasse rouge")],
    },
}


@pytest.fixture
def new_corpus(tmp_path):
    """``new_corpus("coco", "en,de")``: a corpus of one data set, with an image folder and features of one teacher."""

    def build(name, languages, teacher="sha", with_root=True):
        root = tmp_path / "pictures" / name
        root.mkdir(parents=True, exist_ok=True)
        for lang, captions in CAPTIONS[name].items():
            rows = [{"image": image, "caption": caption} for image, caption in captions]
            (tmp_path / f"{name}.{lang}.json").write_text(json.dumps(rows))
            for image, _ in captions:
                (root / image).touch()
        image_root = ["--image-root", str(root)] if with_root else []
        pattern = str(tmp_path / f"{name}.{{lang}}.json")
        folder = tmp_path / "corpora" / name
        prepare([str(folder), "--languages", languages, "--train", pattern, "--test", pattern, *image_root])
        corpus = Corpus(folder)
        for kind, names in (("image", corpus.images("train")), ("text", corpus.english("train"))):
            features = [[float(ord(text[-1])), float(len(text)), float(name == "coco")] for text in names]
            with FeatureWriter(corpus.feature_stem("train", kind), names, 3, "teacher", teacher) as writer:
                writer.write(np.array(features[writer.rows_done :]).reshape(-1, 3))
        return corpus

    return build


@pytest.fixture
def both(new_corpus, tmp_path):
    return join_corpora(tmp_path / "both", [new_corpus("coco", "en,de"), new_corpus("cc3m", "en,de")])


def told(corpus, split, lang):
    """What a corpus says of each caption: image, text, English sentence, its and the image's features."""
    images, english = corpus.images("train"), corpus.english("train")
    features = [corpus.features("train", kind) for kind in ("image", "text")]
    return [
        (images[image], caption, english[row], features[0][image].tolist(), features[1][row].tolist())
        for caption, (image, row) in zip(corpus.captions(split, lang), corpus.rows(split, lang))
    ]


@pytest.mark.parametrize("lang", ["en", "de"])
def test_each_data_set_is_told_as_it_was_alone(both, new_corpus, lang):
    """Images of one name are two images, an English sentence of both is one, of which the first's feature is kept."""
    dog = told(new_corpus("coco", "en,de"), "train", "en")[0][4]
    expected = []
    for name in ("coco", "cc3m"):
        for image, caption, english, *features in told(new_corpus(name, "en,de"), "train", lang):
            expected.append(
                (f"{name}/{image}", caption, english, features[0], dog if english == "a dog" else features[1])
            )
    assert told(both, "train", lang) == expected
    assert both.manifest["image_root"].endswith("pictures") and both.manifest["splits"]["train"]["english"] == 4


def test_a_split_of_one_data_set(both, new_corpus):
    for name in ("coco", "cc3m"):
        alone = new_corpus(name, "en,de")
        assert both.captions(f"test@{name}", "de") == alone.captions("test", "de")
        images = [both.images("test")[row] for row in both.rows(f"test@{name}", "de")[:, 0]]
        assert images == [f"{name}/{alone.images('test')[row]}" for row in alone.rows("test", "de")[:, 0]]
        assert both.feature_stem(f"test@{name}", "image") == both.feature_stem("test", "image")
    assert both.languages("test@coco") == ["en", "de"] and both.languages("test@flickr") == []
    with pytest.raises(UserError, match="no test@flickr captions in language 'de'"):
        both.require("test@flickr", "de")


def test_members(both):
    captions = {lang: both.usable("train", lang) for lang in ("en", "de")}
    members = data_set_members(both, "train", captions, ["cc3m", "coco"])
    assert {name: own.tolist() for name, own in members.items()} == {"cc3m": [3, 4, 7, 8], "coco": [0, 1, 2, 5, 6]}
    for names, message in (
        (["coco"], "name several different data sets"),
        (["coco", "coco"], "name several different data sets"),
        (["coco", "cc"], "4 train captions are of none of them, the first of image 'cc3m/1.jpg'"),
        (["coco", "cc3m", "flickr"], "no training captions in en, de of flickr"),
    ):
        with pytest.raises(UserError, match=message):
            data_set_members(both, "train", captions, names)


def test_languages_are_added_behind(both, new_corpus, tmp_path):
    before = {lang: told(both, "train", lang) for lang in ("en", "de")}
    fingerprints = {lang: both.language_fingerprint(lang) for lang in before}
    again = join_corpora(tmp_path / "both", [new_corpus("coco", "en,de,fr"), new_corpus("cc3m", "en,de,fr")])
    assert {lang: told(again, "train", lang) for lang in before} == before
    assert {lang: again.language_fingerprint(lang) for lang in before} == fingerprints
    assert again.captions("train", "fr") == ["un chien", "une tasse rouge"]


def test_what_does_not_go_together(new_corpus, tmp_path):
    coco, cc3m = new_corpus("coco", "en,de"), new_corpus("cc3m", "en,de,fr")
    for corpora, message in (
        ([coco], "--join takes several corpora"),
        ([coco, cc3m], r"do not go together: training languages \['de', 'en'\] and \['de', 'en', 'fr'\]"),
        ([coco, coco], "data sets need names of their own"),
    ):
        with pytest.raises(UserError, match=message):
            join_corpora(tmp_path / "both", corpora)
    with pytest.raises(UserError, match="--join takes prepared corpora: leave out --train, --languages"):
        prepare([str(tmp_path / "both"), "--join", "a", "b", "--languages", "en", "--train", "x"])
    assert not (tmp_path / "both").exists()


def test_without_image_folders_data_sets_are_named_as_their_corpora(new_corpus, tmp_path):
    corpora = [new_corpus(name, "en,de", with_root=False) for name in ("coco", "cc3m")]
    joined = join_corpora(tmp_path / "both", corpora)
    assert joined.images("train") == ["coco/1.jpg", "coco/2.jpg", "cc3m/1.jpg", "cc3m/7.jpg"]
    assert joined.manifest["image_root"] is None


def test_features_of_different_teachers_are_refused(new_corpus, tmp_path):
    corpora = [new_corpus("coco", "en,de"), new_corpus("cc3m", "en,de", teacher="other")]
    with pytest.raises(UserError, match="are features of different models, or of .*: extract them anew by one"):
        join_corpora(tmp_path / "both", corpora)
