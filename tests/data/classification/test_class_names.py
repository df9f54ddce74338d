"""Names of classes and prompts: every form of a file, and what is refused."""

import json
import logging

import pytest

from mlvl_fairseq.data.classification.names import read_labels, read_names
from mlvl_fairseq.data.classification.prompts import (
    LISTS,
    checked_templates,
    fill,
    list_names,
    prompts_key,
    read_templates,
)
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.evaluation.signature import Signature, parse_signature

KEYS = ["cat", "red_ball", "tree"]


@pytest.fixture
def file(tmp_path):
    """``file(content)``: its path; what is no text becomes JSON."""

    def write(content):
        path = tmp_path / "file"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return str(path)

    return write


@pytest.mark.parametrize(
    "content",
    [
        "tree\tBaum\ncat\t Katze \n\nred_ball\troter Ball\nother\tx\n",
        "\ufeffKatze\r\nroter Ball\nBaum",
        ["Katze", "roter Ball", "Baum"],
        {"red_ball": "roter Ball", "cat": "Katze", "tree": "Baum"},
    ],
)
def test_names_of_all_classes(file, content):
    assert read_names(file(content), KEYS) == ["Katze", "roter Ball", "Baum"]


def test_names_of_wnids(file):
    keys = ["n00000002", "n00000001"]
    assert read_names(file("Names\nn00000001  tench, Tinca\nn00000002: cat\nn3\n"), keys) == ["cat", "tench, Tinca"]


@pytest.mark.parametrize(
    "content, message",
    [
        ("cat\tKatze\ntree\tBaum\n", "has no name for 1 of 3 classes, such as 'red_ball'"),
        ("cat\tKatze\ncat\tKater\n", ":2: names class 'cat' a second time"),
        ("cat\tKatze\nred_ball Ball\n", ":2: has no tab between class and name"),
        ("Katze\nBall\n", "holds 2 names for 3 classes; give one each"),
        (["Katze", "Ball"], "holds 2 names for 3 classes"),
        (["Katze", "Ball", ""], "class 'tree' has no name that is text"),
        ({"cat": "x", "tree": 3, "red_ball": "y"}, "class 'tree' has no name that is text"),
        ('{"cat": "x", "cat": "y"}', "the key 'cat' occurs twice"),
        ("[", "not JSON"),
        ("", "holds 0 names for 3 classes"),
    ],
)
def test_names_that_are_wrong(file, content, message):
    with pytest.raises(DataError) as raised:
        read_names(file(content), KEYS)
    assert message in str(raised.value) and "\n" not in str(raised.value) and "file" in str(raised.value)


def test_classes_of_one_name_are_told(file, caplog):
    read_names(file(["Katze", "Baum", "Baum"]), KEYS)
    assert "1 names are those of several classes, of which the first wins: 'Baum'" in caplog.text


NUMBERS = [0, 281, 999]


@pytest.mark.parametrize(
    "entry, classes, names",
    [
        ([[999, 5, 0], ["Baum", "Fisch", "Katze"]], [0, 2], ["Katze", "Baum"]),
        (["Katze", "Ball", "Baum"], [0, 1, 2], ["Katze", "Ball", "Baum"]),
        ({"tree": "Baum", "cat": "Katze", "dog": "Hund"}, [0, 2], ["Katze", "Baum"]),
    ],
)
@pytest.mark.parametrize("key", ["DE", "de", "imagenet1k"])
def test_labels_of_some_classes(file, caplog, key, entry, classes, names):
    with caplog.at_level(logging.INFO):
        found = read_labels(file({"FR": [[0], ["chat"]], key: entry}), "de", KEYS, NUMBERS, ["imagenet1k"])
    assert (found.classes, found.names) == (classes, names)
    assert (f"2 of 3 classes have a label in '{key}'" in caplog.text) == (len(classes) == 2)


@pytest.mark.parametrize(
    "content, message",
    [
        ({"FR": [[0], ["chat"]]}, "has no labels of language 'de' (but of FR)"),
        ({"DE": [[0], ["Katze"]]}, "field 'DE': has labels for 1 of the data set's 3 classes"),
        ({"DE": [[0, 0], ["Katze", "Kater"]]}, "field 'DE': a class number occurs twice"),
        ({"DE": [[0, 281], ["Katze"]]}, "field 'DE': 2 class numbers do not fit 1 labels"),
        ({"DE": [["0", 281], ["Katze", "Ball"]]}, "field 'DE': 2 class numbers do not fit 2 labels"),
        ({"DE": [[0, 281], ["Katze", None]]}, "class 'red_ball' has no name that is text"),
        ({"DE": 3}, "field 'DE': expected lists or an object"),
        ({"DE": ["Katze"]}, "holds 1 names for 3 classes"),
        ([1], "expected"),
        ("x", "not JSON"),
    ],
)
def test_labels_that_are_wrong(file, content, message):
    with pytest.raises(DataError) as raised:
        read_labels(file(content), "de", KEYS, NUMBERS)
    assert message in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "template, prompt",
    [
        ("photo of {}", "photo of {x}"),
        ("{c}的照片。", "{x}的照片。"),
        ("{} and {c}", "{x} and {x}"),
        ("{0.__class__} {c!r} {{}} {}", "{0.__class__} {c!r} {{x}} {x}"),
        ("%s \\1 {}", "%s \\1 {x}"),
    ],
)
def test_a_place_is_replaced_literally(template, prompt):
    """No format string: what else is in it means nothing, nor what is in a name."""
    assert fill(template, "{x}") == prompt
    assert fill("a {}", "\\g<0> {c} {}") == "a \\g<0> {c} {}"


@pytest.mark.parametrize(
    "templates, message",
    [
        ([], "no template is given"),
        ([""], "an empty template: one is as 'photo of {}'"),
        (["  "], "an empty template"),
        (["a photo"], "template 'a photo' has no place for the class: write {} there"),
        (["a {x}"], "has no place"),
        (["a {}", "a {}"], "template 'a {}' is given twice"),
        ([3], "an empty template"),
    ],
)
def test_templates_that_are_none(templates, message):
    with pytest.raises(DataError) as raised:
        checked_templates(templates, "--template")
    assert str(raised.value).startswith("--template: ") and message in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [
        "Foto von {}\n\nein Bild: {}\n",
        "{} als Foto\r\n{c}\n",
        ["Foto von {}", "{}"],
        {"FR": ["photo {}"], "DE": ["Foto von {}", "{c}"]},
        {"imagenet1k": ["{} a", "{} b"]},
    ],
)
def test_templates_of_a_file(file, content):
    assert len(read_templates(file(content), "de", ["imagenet1k"])) == 2


@pytest.mark.parametrize(
    "content, message",
    [
        ({"FR": ["photo {}"]}, "has no templates of language 'de' (but of FR)"),
        ({"DE": "Foto {}"}, "expected a list of templates"),
        ({"DE": []}, "no template is given"),
        ("Foto", "has no place"),
        ("\n", "no template is given"),
        ("[", "not JSON"),
    ],
)
def test_template_files_that_are_wrong(file, content, message):
    with pytest.raises(DataError) as raised:
        read_templates(file(content), "de", [])
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_openai_s_lists():
    assert list_names() == ["openai", "openai_simple"]
    imagenet = read_templates("openai", "en", ["imagenet"])
    assert (imagenet[0], imagenet[-1]) == ("a bad photo of a {}.", "a tattoo of the {}.")
    assert len(imagenet) == len(set(imagenet)) == 80 and "itap of my {}." in imagenet
    assert len(read_templates("openai_simple", "en", ["imagenet"])) == 7
    assert read_templates("openai", "en", ["eurosat"])[0] == "a centered satellite photo of {}."
    assert [len(read_templates("openai", "en", [name])) for name in ("cifar10", "cifar100", "sun397")] == [18, 18, 2]
    with pytest.raises(UserError, match="--templates openai has none for this data set, but for imagenet, "):
        read_templates("openai", "en", ["svhn"])
    with pytest.raises(DataError, match="no such file; give a file, or one of the lists openai, openai_simple"):
        read_templates("opnai", "en", [])


@pytest.mark.parametrize("path", sorted(LISTS.glob("*.json")), ids=lambda path: path.stem)
def test_lists_carry_their_licence(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    text = "\n".join(content["licence"])
    assert "Copyright (c) 2021 OpenAI" in text and "shall be included in all\ncopies" in text and content["source"]


def test_a_signature_says_which_prompts():
    one = prompts_key(["photo of {}"], ["cat", "tree"])
    assert one.endswith(" (photo of {})") and len(one.split()[0]) == 12
    assert prompts_key(["a {}", "b {}"], ["cat"]).endswith(" (2 templates)")
    others = {prompts_key(*parts) for parts in ((["a {}"], ["b", "c"]), (["a {}", "b"], ["c"]), (["a {}"], ["c", "b"]))}
    assert len(others | {one}) == 4
    odd = prompts_key(["a|{}\n" + "x" * 100], ["c"])
    none = dict.fromkeys(("images", "texts", "tok", "maxlen"))
    signature = Signature(data="x", split="test", lang="en", precision="fp32", own={"prompts": odd}, **none)
    assert parse_signature(str(signature))["prompts"] == odd and "(a {} xxx" in odd
