"""Caption files that follow one another (LilT's pre-training on COCO, VG, SBU and CC3M)."""

import json

import pytest

from mlvl_fairseq.data.captions import read_captions
from mlvl_fairseq.data.captions.selecting import joined
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.errors import DataError


@pytest.fixture
def files(tmp_path):
    coco, vg = [("a.jpg", "A dog"), ("b.jpg", "")], [("c.jpg", "A cat"), ("a.jpg", "A dog"), ("a.jpg", "Dog")]
    paths = []
    for name, pairs in (("coco", coco), ("vg", vg)):
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps([{"image": image, "caption": caption} for image, caption in pairs]))
    return paths


def test_tables_of_several_files_are_one(files):
    table = joined([read_captions(path) for path in files])
    assert table.images == ["a.jpg", "c.jpg"] and table.image_rows.tolist() == [0, 1, 0, 0]
    assert table.captions == ["A dog", "A cat", "A dog", "Dog"] and table.lines.tolist() == [1, 1, 2, 3]
    assert dict(table.problems.counts) == {"empty caption": 1}


def test_files_with_and_without_english_do_not_go_together(files, tmp_path):
    (tmp_path / "triplets").write_text("a.jpg\tA dog\tEin Hund\n")
    tables = [read_captions(path) for path in (files[1], tmp_path / "triplets")]
    for order in (tables, tables[::-1]):
        with pytest.raises(DataError, match="vg.json: has no English sentences, but .*triplets has"):
            joined(order)


@pytest.mark.parametrize("more, captions", [([], 4), (["--drop-duplicates"], 3)])
def test_prepare_takes_several(files, more, captions, run_here, tmp_path):
    given = [option for path in files for option in ("--train", path)]
    with pytest.raises(SystemExit) as end:
        run_here("mlvl-prepare", tmp_path / "corpus", "--languages", "en", "--bpe-size", 10, *given, *more)
    assert not end.value.code
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.images("train") == ["a.jpg", "c.jpg"] and len(corpus.rows("train", "en")) == captions
