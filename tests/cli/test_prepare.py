"""mlvl-prepare: options that would do nothing are refused, and features that users have can become more."""

import numpy as np
import pytest

from mlvl_fairseq.cli import prepare
from mlvl_fairseq.data.captions.reading import READERS
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.corpus.binarize import count_tokens
from mlvl_fairseq.data.corpus.vocabularies import GrownVocabulary, UnionVocabulary
from mlvl_fairseq.errors import DataError, UserError

VALUES = {"--bpe-size": "10000", "--on-problem": "skip", "--max-problems": "0"}
PICTURES = {"aa": ("cat", "dog"), "bb": ("dog", "owl")}  # of the captions in each language


def options_of_captions():
    parser = prepare.build_parser()
    (captions,) = (group for group in parser._action_groups if str(group.title).startswith("captions"))
    names = {action.option_strings[0]: action.nargs != 0 for action in captions._group_actions}
    return [(name, value) for name, value in names.items() if name not in ("--languages", "--image-root")]


@pytest.mark.parametrize("option, takes_value", options_of_captions())
def test_options_of_captions_without_captions(option, takes_value, tmp_path):
    """Also with the value that they have by default."""
    value = [VALUES.get(option, "auto")] if takes_value else []
    with pytest.raises(UserError, match=f"^{option}: without --languages, no caption files are read"):
        prepare.main([str(tmp_path), option, *value])
    with pytest.raises(DataError, match="no corpus here"):
        prepare.main([str(tmp_path)])


def test_help_names_every_format(monkeypatch):
    monkeypatch.setitem(READERS, "pajek", None)
    assert "pajek" in prepare.build_parser().format_help()


@pytest.fixture
def make(tmp_path):
    """``make(languages, {picture: number})``: a corpus, or more of it, with features [pictures, 1] that are numbers."""

    def corpus(languages, numbers):
        for lang in languages:
            rows = [f"{name}.jpg\tA {name}.\t{lang} {name}\n" for name in PICTURES[lang]]
            (tmp_path / f"{lang}.tsv").write_text("".join(rows))
        np.save(tmp_path / "f.npy", np.array([[number] for number in numbers.values()], np.float32))
        (tmp_path / "names.txt").write_text("".join(f"{name}.jpg\n" for name in numbers))
        files = ["--languages", ",".join(languages), "--train", f"{tmp_path}/{{lang}}.tsv", "--bpe-size", "300"]
        given = ["--image-features", f"train={tmp_path}/f.npy", "--image-list", f"train={tmp_path}/names.txt"]
        prepare.main([str(tmp_path / "corpus"), *files, *given])
        return Corpus(tmp_path / "corpus")

    return corpus


@pytest.mark.parametrize("first", [{"cat": 1, "dog": 2}, {"owl": 3, "cat": 1, "dog": 2}], ids=["fewer", "the same"])
def test_given_features_go_on_behind_those_that_are_there(make, first):
    assert make(["aa"], first).features("train", "inputs").tolist() == [[1], [2]]
    assert make(["aa", "bb"], {"owl": 3, "cat": 1, "dog": 2}).features("train", "inputs").tolist() == [[1], [2], [3]]


def test_other_features_do_not_go_on_behind_them(make):
    corpus = make(["aa"], {"cat": 1, "dog": 2})
    with pytest.raises(DataError, match="weights_fingerprint .* to start over, delete"):
        make(["aa", "bb"], {"cat": 1, "dog": 9, "owl": 3})
    with pytest.raises(DataError, match="holds 2 of 3 rows, more have been added since; run the same extraction again"):
        Corpus(corpus.folder).features("train", "inputs")


def test_english_sentences_beside_plain_text(tmp_path):
    """Each line's own, also where no English caption file is read."""
    (tmp_path / "bb.txt").write_text("bb dog\nbb owl\nbb big dog\n")
    (tmp_path / "images.txt").write_text("dog.jpg\nowl.jpg\ndog.jpg\n")
    (tmp_path / "english.bb").write_text("A dog.\nAn owl.\nA dog.\n")
    files = ["--languages", "bb", "--train", f"{tmp_path}/{{lang}}.txt", "--bpe-size", "300", "--format", "aligned"]
    beside = ["--caption-images", f"train={tmp_path}/images.txt", "--caption-english"]
    prepare.main([str(tmp_path / "corpus"), *files, *beside, f"train={tmp_path}/english.{{lang}}"])
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.english("train") == ["A dog.", "An owl."]
    assert corpus.rows("train", "bb").tolist() == [[0, 0], [1, 1], [0, 0]]
    (tmp_path / "english.bb").write_text("A dog.\n")
    with pytest.raises(DataError, match="english.bb: has no line 2, but '.*bb.txt' has"):
        prepare.main([str(tmp_path / "other"), *files, *beside, f"train={tmp_path}/english.bb"])


@pytest.mark.parametrize("option, text", [("--order", "aa,bb"), ("--joint", "aa,bb"), ("--oracle", "aa,bb")])
def test_what_a_task_asks_for_is_what_its_option_makes(tmp_path, option, text):
    """The command in the message makes all that the task then opens."""
    for lang, word in (("aa", "zwölfäugig"), ("bb", "žluťoučký")):
        (tmp_path / f"{lang}.tsv").write_text("".join(f"{i}.jpg\tA dog.\t{word} {lang}\n" for i in range(3)))
    prepare.main([str(tmp_path / "corpus"), "--languages", "aa,bb", "--train", f"{tmp_path}/{{lang}}.tsv"])
    corpus = Corpus(tmp_path / "corpus")
    vocabulary = (UnionVocabulary if option == "--oracle" else GrownVocabulary)(corpus, ["aa", "bb"])
    langs = ["bb"] if option == "--order" else ["aa", "bb"]
    with pytest.raises(UserError, match=f"make it with: mlvl-prepare .* {option} {text}$"):
        vocabulary.load_dictionary(langs)
    prepare.main([str(corpus.folder), option, text])
    size = len(vocabulary.load_dictionary(langs))
    for lang in langs:
        counts = count_tokens(vocabulary, lang, size)
        assert counts.sum() > 0 and counts[vocabulary.tokenizer.eos] == len(corpus.captions("train", lang))


def test_a_list_without_features(make):
    corpus = make(["aa"], {"cat": 1, "dog": 2})
    with pytest.raises(UserError, match="give one --image-list"):
        prepare.main([str(corpus.folder), "--image-list", "train=names.txt"])
