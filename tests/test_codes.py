"""What may become the name of a file."""

import pytest

from mlvl_fairseq.codes import language_code, split_name
from mlvl_fairseq.errors import DataError


@pytest.mark.parametrize(
    "code", ["en", "quz", "fil", "qaa", "zh-Hans", "pt_BR", "en_XX", "x", "EN", "de2", "sr-Latn-RS"]
)
def test_codes_of_languages(code):
    assert language_code(code) == code


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "..",
        ".",
        "../x",
        "a/b",
        "/etc",
        "a\\b",
        "de ",
        " de",
        "d e",
        "de\n",
        "de.x",
        "-de",
        "de-",
        "de--x",
        "_de",
    ]
    + ["de+en", "de&en", "de,en", "~", "*", "{lang}", "\u0434\u0435", "e\u0301n", "a" * 65, "1", "\0", None, 3, ["en"]],
)
def test_what_is_no_code(text):
    with pytest.raises(DataError, match="c.json field 'lang': .* is no code of a language") as raised:
        language_code(text, "c.json", "lang")
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 250


@pytest.mark.parametrize("text", ["english", "clip", "Clip"])
def test_names_that_a_corpus_uses_itself(text):
    with pytest.raises(DataError, match=f"'{text}' cannot be the code of a language"):
        language_code(text)


@pytest.mark.parametrize("text", ["test", "test_2016_flickr", "1K", "val-2014"])
def test_names_of_splits(text):
    assert split_name(text) == text


@pytest.mark.parametrize("text", ["", "..", "../test", "a/b", "test.x", "te st", "-test", "test\n", "x" * 65, None])
def test_what_is_no_split(text):
    with pytest.raises(DataError, match="is no name of a split"):
        split_name(text)
