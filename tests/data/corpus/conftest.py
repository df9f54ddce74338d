import json

import pytest

from mlvl_fairseq.data.captions import read_captions
from mlvl_fairseq.data.corpus.build import build_corpus

ENGLISH = [("b.jpg", ["A dog runs.", "A brown dog"]), ("a.jpg", ["Two cats", "A dog runs."]), ("c.jpg", ["A bird"])]
GERMAN = [("a.jpg", "Zwei Katzen"), ("b.jpg", "Ein Hund rennt."), ("d.jpg", "Ein Haus"), ("b.jpg", "Ein brauner Hund")]
CZECH = [
    ("b.jpg", "A dog runs.", "Pes běží."),
    ("a.jpg", "Three cats", "Tři kočky"),
    ("e.jpg", "Three cats", "Tři kočky"),
    ("a.jpg", "A bird", "Pták"),
]


def json_rows(pairs):
    return [{"image": image, "caption": caption} for image, caption in pairs]


@pytest.fixture
def new_tables(tmp_path):
    """Makes caption tables by split and language, from files as users have them; `german` replaces the German rows."""

    def make(german=GERMAN):
        files = {"en": tmp_path / "en.json", "de": tmp_path / "de.json", "cs": tmp_path / "cs.tsv"}
        files["en"].write_text(json.dumps(json_rows(ENGLISH)), encoding="utf-8")
        files["de"].write_text(json.dumps(json_rows(german)), encoding="utf-8")
        files["cs"].write_text("".join("\t".join(row) + "\n" for row in CZECH), encoding="utf-8")
        languages = {"train": ("en", "de", "cs"), "valid": ("en", "de")}
        return {split: {lang: read_captions(files[lang]) for lang in langs} for split, langs in languages.items()}

    return make


@pytest.fixture
def corpus(new_tables, tmp_path):
    """A corpus folder of three languages; two of them have validation captions."""
    return build_corpus(tmp_path / "corpus", new_tables(), bpe_size=60)
