"""A missing file of a language: the message says which languages have one, or which names are similar."""

import pytest

from mlvl_fairseq.data.captions import read_languages
from mlvl_fairseq.data.language_files import languages_of, told_what_is_there
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import open_file


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "çaptions [1]"
    names = ["val.de.json", "val.pt-BR.json", "val.en.clean.json", "val.english.json", "train.fr.json"]
    for name in (*names, "de/test.de", "fr/test.fr", "fr/test.de", "ja/test.de"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("pattern, languages", [
    ("val.{lang}.json", ["de", "pt-BR"]), ("{lang}/test.{lang}", ["de", "fr"]), ("val.de.json", []),
    ("test.{lang}.json", []), ("{lang}.json", []), ("{lang}/test.de", ["de", "fr", "ja"]),
])  # fmt: skip
def test_languages_that_have_a_file(folder, pattern, languages):
    assert languages_of(str(folder / pattern)) == languages


@pytest.mark.parametrize("pattern, hint", [
    ("val.{lang}.json", "; '{folder}/val.{{lang}}.json' is there in: de, pt-BR"),
    ("vall.{lang}.json", "; similar names there: val.de.json, val.en.clean.json, val.english.json, val.pt-BR.json"),
    ("of {lang}/test.json", "; there is no folder '{folder}/of nl'"),
    ("Q", ""),
])  # fmt: skip
def test_what_a_message_says(folder, pattern, hint):
    with pytest.raises(DataError) as error:
        read_languages(str(folder / pattern), ["nl"])
    path = folder / pattern.replace("{lang}", "nl")
    assert str(error.value) == f"{path}: no such file{hint.format(folder=folder)}"


def test_many_languages_are_not_all_named(tmp_path):
    for number in range(50):
        (tmp_path / f"a.l{number:02}").touch()
    with pytest.raises(DataError, match=r"in: l00, .*, l39, \.\.\. and 10 more$"):
        read_languages(f"{tmp_path}/a.{{lang}}", ["nl"])


def test_other_files_and_other_errors_stay_as_they_are(folder, tmp_path):
    with pytest.raises(DataError, match="/b: no such file$"):
        with told_what_is_there("nl", str(folder / "val.{lang}.json"), None):
            open_file(tmp_path / "b")
    (folder / "val.nl.json").write_text("")
    with pytest.raises(DataError, match="is empty$"):
        read_languages(str(folder / "val.{lang}.json"), ["nl"])
