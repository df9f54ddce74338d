"""mlvl-prepare: options that would do nothing are refused, and features that users have can become more."""

import json
import multiprocessing
import shlex

import numpy as np
import pytest
from PIL import Image

from mlvl_fairseq.cli import prepare
from mlvl_fairseq.data.captions.reading import READERS
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.corpus.binarize import count_tokens
from mlvl_fairseq.data.corpus.vocabularies import GrownVocabulary, UnionVocabulary
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.networks.clip import ARCHITECTURES
from mlvl_fairseq.process.locks import alone_in

VALUES = {"--bpe-size": "10000", "--on-problem": "skip", "--max-problems": "0", "--captions-kept": "all"}
PICTURES = {"aa": ("cat", "dog"), "bb": ("dog", "owl")}  # of the captions in each language


def options_of_captions():
    parser = prepare.build_parser()
    (captions,) = (group for group in parser._action_groups if str(group.title).startswith("captions"))
    names = {action.option_strings[0]: action.nargs != 0 for action in captions._group_actions}
    return [(name, value) for name, value in names.items() if name not in ("--languages", "--join")]


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
    prepare.main([str(tmp_path / "my corpus"), "--languages", "aa,bb", "--train", f"{tmp_path}/{{lang}}.tsv"])
    corpus = Corpus(tmp_path / "my corpus")
    vocabulary = (UnionVocabulary if option == "--oracle" else GrownVocabulary)(corpus, ["aa", "bb"])
    langs = ["bb"] if option == "--order" else ["aa", "bb"]
    with pytest.raises(UserError, match=f"make it with: mlvl-prepare .* {option} {text}$") as error:
        vocabulary.load_dictionary(langs)
    prepare.main(shlex.split(str(error.value).partition("make it with: mlvl-prepare ")[2]))
    size = len(vocabulary.load_dictionary(langs))
    for lang in langs:
        counts = count_tokens(vocabulary, lang, size)
        assert counts.sum() > 0 and counts[vocabulary.tokenizer.eos] == len(corpus.captions("train", lang))


def test_a_list_without_features(make):
    corpus = make(["aa"], {"cat": 1, "dog": 2})
    with pytest.raises(UserError, match="give one --image-list"):
        prepare.main([str(corpus.folder), "--image-list", "train=names.txt"])


# Problems that show when files are put together


def captions_file(path, names, words="a {} star"):
    path.write_text(json.dumps([{"image": name, "caption": words.format(row)} for row, name in enumerate(names)]))


@pytest.fixture
def one_missing(tmp_path):
    """Arguments for English captions of three pictures and German ones of four."""
    captions_file(tmp_path / "train.en.json", ["a.png", "b.png", "c.png"])
    captions_file(tmp_path / "train.de.json", ["a.png", "b.png", "c.png", "d.png"], "ein {} Stern")
    return [str(tmp_path / "corpus"), "--languages", "de,en", "--train", f"{tmp_path}/train.{{lang}}.json"]


def test_a_caption_without_a_partner_is_told_and_stays(one_missing, tmp_path, caplog):
    with caplog.at_level("INFO"):
        prepare.main(one_missing)
    assert f"{tmp_path}/train.de.json:4 field 'image': no English caption of 'd.png'" in caplog.text
    last = "train: 4 photos, 3 English sentences, 7 captions (4 de, 3 en); without an English partner: 1 de"
    assert last in caplog.text
    assert Corpus(tmp_path / "corpus").manifest["splits"]["train"]["problems"] == {
        "de": {"unpaired caption": 1},
        "en": {},
    }


@pytest.mark.parametrize("policy", [["--on-problem", "error"], ["--max-problems", "0"]])
def test_a_caption_without_a_partner_obeys_the_policy(one_missing, tmp_path, policy):
    with pytest.raises(DataError, match="train.de.json:4 field 'image': no English caption of 'd.png'"):
        prepare.main([*one_missing, *policy])
    assert not (tmp_path / "corpus").exists()
    prepare.main([*one_missing, "--max-problems", "1"])


def test_the_limit_is_of_a_file_as_a_whole(one_missing, tmp_path):
    """One caption cannot be read, another one has no partner."""
    captions_file(tmp_path / "train.de.json", ["a.png", " ", "b.png", "c.png", "d.png"], "ein {} Stern")
    with pytest.raises(DataError, match=r"train.de.json:5 .*more than 1 unusable caption "):
        prepare.main([*one_missing, "--max-problems", "1"])
    prepare.main([*one_missing, "--max-problems", "2"])


def test_captions_without_a_partner_can_be_left_out(one_missing, tmp_path, caplog):
    prepare.main([*one_missing, "--drop-unpaired"])
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.images("train") == ["a.png", "b.png", "c.png"]
    assert corpus.rows("train", "de").tolist() == [[0, 0], [1, 1], [2, 2]]
    assert "train.de.json: 1 unpaired caption; 1 caption left out" in caplog.text
    captions_file(tmp_path / "train.de.json", ["x.png"])
    with pytest.raises(DataError, match="none of its captions has a partner in 'en'"):
        prepare.main([str(tmp_path / "other"), *one_missing[1:], "--drop-unpaired"])


def test_pictures_of_one_language_are_told(one_missing, tmp_path, caplog):
    captions_file(tmp_path / "train.de.json", ["a.png", "b.png"])
    prepare.main(one_missing)
    assert "train.en.json: 1 image in one language only" in caplog.text
    assert "'c.png' has captions in 'en' only" in caplog.text


def test_captions_of_pictures_without_features(one_missing, tmp_path, caplog):
    np.save(tmp_path / "f.npy", np.eye(3, dtype=np.float32))
    (tmp_path / "f.txt").write_text("./c.png\na.png\nx.png\n")
    given = ["--image-features", f"train={tmp_path}/f.npy", "--image-list", f"train={tmp_path}/f.txt"]
    with pytest.raises(DataError, match="train.en.json:2 field 'image': 'b.png' is not in .*f.txt; its 1 captions"):
        prepare.main([*one_missing, *given, "--on-problem", "error"])
    prepare.main([*one_missing, *given])
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.images("train") == ["a.png", "c.png"]
    assert corpus.features("train", "inputs").tolist() == [[0, 1, 0], [1, 0, 0]]
    assert corpus.manifest["splits"]["train"]["problems"]["de"] == {"image without feature": 2}
    assert "train.de.json: 2 image without feature; 2 captions left out" in caplog.text


def test_one_picture_in_several_spellings(tmp_path):
    """English is not the first language; each has a way of its own to write the same two names."""
    root = tmp_path / "pictures"
    (root / "x").mkdir(parents=True)
    for name in ("x/a.png", "x/zu\u0308ge.png"):
        (root / name).touch()
    spellings = {
        "de": ["x/a.png", "x/z\u00fcge.png"],
        "fr": ["./x//a.png", "x/zu\u0308ge.png"],
        "en": [r"x\a.png", r"x\z" + "\u00fcge.png "],
        "it": [f"{root}/x/a.png", f"{root}/x/../x/z\u00fcge.png"],
    }
    for lang, names in spellings.items():
        captions_file(tmp_path / f"train.{lang}.json", names)
    files = ["--languages", "de,fr,en,it", "--train", f"{tmp_path}/train.{{lang}}.json"]
    prepare.main([str(tmp_path / "corpus"), *files, "--image-root", str(root), "--check-images"])
    corpus = Corpus(tmp_path / "corpus")
    assert sorted(corpus.images("train")) == ["x/a.png", "x/z\u00fcge.png"]
    for lang in spellings:
        assert corpus.rows("train", lang).tolist() == corpus.rows("train", "en").tolist()


def test_names_outside_the_root(tmp_path):
    root = tmp_path / "pictures"
    root.mkdir()
    for place in (root / "a.png", tmp_path / "b.png"):
        place.touch()
    captions_file(tmp_path / "train.en.json", ["a.png", "../b.png"])
    files = [str(tmp_path / "corpus"), "--languages", "en", "--train", f"{tmp_path}/train.{{lang}}.json"]
    with pytest.raises(DataError, match=r"train.en.json:2 field 'image': '\.\./b.png' is not below the image root"):
        prepare.main([*files, "--image-root", str(root)])
    assert not (tmp_path / "corpus").exists()
    prepare.main([*files, "--image-root", str(root), "--allow-outside-root", "--check-images"])
    assert Corpus(tmp_path / "corpus").images("train") == ["a.png", "../b.png"]


def test_pictures_that_splits_share(tmp_path, caplog):
    root = tmp_path / "pictures"
    root.mkdir()
    for name, content in (("a.png", b"1"), ("b.png", b"2"), ("c.png", b"3"), ("d.png", b"1"), ("e.png", b"4")):
        (root / name).write_bytes(content)
    for split, names in (("train", ["a.png", "b.png"]), ("valid", ["e.png"]), ("test", ["./b.png", "d.png", "c.png"])):
        captions_file(tmp_path / f"{split}.en.json", names)
    files = [f"--{split}={tmp_path}/{split}.{{lang}}.json" for split in ("train", "valid", "test")]
    with caplog.at_level("INFO"):
        prepare.main([str(tmp_path / "corpus"), "--languages", "en", *files, "--image-root", str(root)])
        assert "train and test share 1 photos: 'b.png'" in caplog.text
        assert "valid and test" not in caplog.text and "content" not in caplog.text
        prepare.main([str(tmp_path / "corpus"), "--compare-photos"])
    assert "by content, train and test share 2 photos: 'a.png' is 'd.png', 'b.png'" in caplog.text
    (root / "c.png").unlink()
    with pytest.raises(DataError, match="c.png: there is no such image of the test split"):
        prepare.main([str(tmp_path / "corpus"), "--compare-photos"])


@pytest.mark.parametrize("languages", ["en,../de", "en,de/x", "en,d e", "en,english", "en,en"])
def test_languages_that_are_no_codes(one_missing, tmp_path, languages):
    with pytest.raises(UserError, match="is no code of a language|cannot be the code|more than once"):
        prepare.main([one_missing[0], "--languages", languages, *one_missing[3:]])
    assert not (tmp_path / "corpus").exists()


def test_one_at_a_time(one_missing, tmp_path, monkeypatch):
    monkeypatch.setattr("mlvl_fairseq.process.locks.PATIENCE", 0.1)
    prepare.main(one_missing)
    started, end = multiprocessing.Event(), multiprocessing.Event()

    def at_work():
        with alone_in(tmp_path / "corpus"):
            started.set()
            end.wait(60)

    process = multiprocessing.get_context("fork").Process(target=at_work)
    process.start()
    assert started.wait(30)
    with pytest.raises(UserError, match="another process is at work in .*corpus: wait until it has ended"):
        prepare.main([str(tmp_path / "corpus"), "--order", "en"])
    end.set()
    process.join()
    prepare.main([str(tmp_path / "corpus"), "--order", "en"])


def test_what_comes_next(one_missing, tmp_path, caplog):
    folder = tmp_path / "my corpus"
    with caplog.at_level("INFO"):
        prepare.main([str(folder), *one_missing[1:]])
    assert caplog.messages[-1] == f"next: mlvl-prepare '{folder}' --image-root DIR --teacher PATH"
    (tmp_path / "a.png").touch()
    with caplog.at_level("INFO"):
        prepare.main([str(folder), "--image-root", str(tmp_path)])
    assert caplog.messages[-1] == f"next: mlvl-prepare '{folder}' --teacher PATH"


OF_THE_TEST = {  # small_clip's dimensions
    "text_width": 64, "text_layers": 1, "text_heads": 1, "image_size": 32, "patch_size": 8, "vision_width": 64,
    "vision_layers": 1, "vision_heads": 1,
}  # fmt: skip


def test_what_comes_after_a_teacher(tmp_path, small_clip, caplog, monkeypatch):
    """A student that starts from it has its architecture, which is noted beside the features."""
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    captions_file(tmp_path / "train.en.json", ["a.png"])
    files = ["--languages", "en", f"--train={tmp_path}/train.en.json", f"--image-root={tmp_path}"]
    folder = tmp_path / "corpus"
    monkeypatch.setitem(ARCHITECTURES, "clip_of_the_test", OF_THE_TEST)
    start = f"next: mlvl-cll {folder} runs/NAME --order en"

    def said(*options):
        with caplog.at_level("INFO"):
            prepare.main([str(folder), *options])
        return caplog.messages[-1]

    named = f"{start} --arch clip_of_the_test --init-from"
    assert said(*files, "--teacher", str(small_clip)) == f"{named} {small_clip}"
    assert said("--teacher", str(small_clip)) == f"{named} {small_clip}"  # its weights are not read again
    captions_file(tmp_path / "train.de.json", ["a.png"])
    again = "(or the command of your run again, with the longer --order)"
    longer = named.replace("--order en", "--order en,de")
    added = ["--languages", "de", f"--train={tmp_path}/train.de.json"]
    assert said(*added) == f"{longer} {small_clip} {again}"  # as noted beside the features
    start, named = start + ",de", longer
    other = str(tmp_path / "other")  # which no teacher has encoded before the language joins
    prepare.main([other, *files])
    with caplog.at_level("INFO"):
        prepare.main([other, *added, "--teacher", str(small_clip)])
    assert caplog.messages[-1] == f"{named} {small_clip}".replace(str(folder), other)
    assert said() == said(*added) == f"{named} {small_clip}"
    record = folder / "features" / "teacher.json"
    noted = json.loads(record.read_text())
    assert noted["family"] == "clip"
    for change, end in (
        ({"architecture": None}, f"--arch ARCH --init-from {small_clip}"),
        ({"architecture": None, "family": "trikd"}, "--arch ARCH --init-from CLIP (the teacher, of the family trikd, "
         "is none: docs/methods.md)"),
    ):  # fmt: skip
        record.write_text(json.dumps({**noted, **change}))
        assert said("--teacher", str(small_clip)) == f"{start} {end}"
    record.write_text(json.dumps({**noted, "path": str(tmp_path / "gone.pt")}))
    assert said() == f"{named} TEACHER"
    earlier = {name: noted[name] for name in ("content", "weights_fingerprint")}
    record.write_text(json.dumps(earlier))
    assert said("--teacher", str(small_clip)) == f"{start} --arch ARCH --init-from {small_clip}"
    assert said() == f"{start} --arch ARCH --init-from TEACHER"


@pytest.mark.parametrize("before", [[], ["corpus"]])
def test_help_needs_no_corpus(before, run_here, capsys):
    with pytest.raises(SystemExit) as end:
        run_here("mlvl-prepare", *before, "--help")
    assert end.value.code == 0 and "--transform" in capsys.readouterr().out


def test_no_option_at_all_is_one_line(run_here, capsys):
    with pytest.raises(SystemExit) as end:
        run_here("mlvl-prepare")
    assert end.value.code == 2 and "the following arguments are required: corpus" in capsys.readouterr().err
