"""What was exported trains again: more languages from the folder of another program, the next one from a checkpoint."""

import numpy as np
import pytest

from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.export import export_named
from mlvl_fairseq.export.exporting import export_model
from mlvl_fairseq.inference import Encoder

CAPTIONS = ["a red circle", "ein roter Kreis", "красный круг"]


@pytest.mark.parametrize("name", ["clip-hf", "open-clip"])
def test_more_languages_from_an_exported_model(
    name, english, succeed, run, world, teacher, sequence_options, composed, tmp_path
):
    """Its own corpus, whose vocabulary goes on where the model's ends; teacher and start are the exported folder."""
    learned, out = Encoder.load(english("cll_clip")), tmp_path / "out"
    kind = export_named(name)
    export = kind(kind.Options())
    export.programs = ()
    export_model(export, learned, out)
    files = {"train": "train.vision-en-{lang}.tsv", "valid": "valid.{lang}.json", "test": "test.{lang}.json"}
    patterns = [f"--{split}={world / file}" for split, file in files.items()]
    prepare = ["mlvl-prepare", tmp_path / "corpus", "--languages", "en,ru", *patterns, "--image-root", world / "images"]
    succeed(*prepare, "--begin-with", out, "--order", "ru")
    succeed("mlvl-prepare", tmp_path / "corpus", "--teacher", out)
    options = [*sequence_options, "--init-from", out, "--max-update", 2]
    succeed("mlvl-cll", tmp_path / "corpus", tmp_path / "run", "--method", "cll_clip", "--order", "ru", *options)
    more = Encoder.load(tmp_path / "run/00-ru/checkpoint_best.pt")
    before, after = learned.tokenizer.vocabulary.tokens, more.tokenizer.vocabulary.tokens
    assert after[: len(before)] == before and len(after) > len(before) > 49_408
    rows = [encoder.network.text.token_embedding.weight.detach()[:300] for encoder in (more, learned)]
    np.testing.assert_allclose(*rows, rtol=0, atol=5e-3)  # two updates of 1e-3
    assert "give --begin-with where a corpus is made" in run(*prepare[:2], "--begin-with", teacher).error


def test_the_next_language_from_a_whole_checkpoint(english, cll, succeed, tmp_path):
    """Without the teacher's file it is what it is with it."""
    start = english("cll_clip")
    succeed("mlvl-export", "checkpoint", start, tmp_path / "whole")
    whole = tmp_path / "whole" / "checkpoint.pt"
    options = [str(option) for option in cll("de", learned="en")]
    place = options.index("--init-from")
    alone = options[:place] + options[place + 2 :]
    for name, given, before in (("with", options, start), ("alone", alone, whole)):
        more = ["--finetune-from-model", before, "--max-update", 2, "--save-dir", tmp_path / name]
        succeed("fairseq-train", *given, *more)
    found = [Encoder.load(tmp_path / name / "checkpoint_last.pt") for name in ("with", "alone")]
    assert np.array_equal(*(encoder.encode_texts(CAPTIONS) for encoder in found))


def test_features_of_a_corpus(teacher, corpus, succeed, tmp_path):
    """Shards in the order of their names; images as mlvl-prepare --teacher stored them."""
    options = ["--corpus", corpus, "--split", "test", "--langs", "de", "--shard-rows", 5]
    succeed("mlvl-export", "features", teacher, tmp_path / "out", *options)
    prepared, found = Corpus(corpus), {}
    for place, kind in (("images", "img_emb"), ("texts.de", "text_emb")):
        shards = sorted((tmp_path / "out" / place / kind).glob("*.npy"))
        names = sorted((tmp_path / "out" / place / "names").glob("*.txt"))
        assert [shard.name for shard in shards] == [f"{kind}_{number}.npy" for number in range(len(names))]
        lines = [name for path in names for name in path.read_text(encoding="utf-8").splitlines()]
        found[place] = np.concatenate([np.load(shard) for shard in shards]), lines
    vectors, names = found["images"]
    assert names == prepared.images("test") and len(names) == 12
    np.testing.assert_allclose(vectors, prepared.features("test", "image"), rtol=0, atol=1e-5)
    vectors, captions = found["texts.de"]
    assert captions == prepared.captions("test", "de")
    np.testing.assert_allclose(vectors, Encoder.load(teacher).encode_texts(captions), rtol=0, atol=1e-5)


def test_parquet_says_what_rows_are(teacher, corpus, succeed, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pip install 'mlvl_fairseq[parquet]'")
    succeed("mlvl-export", "features", teacher, tmp_path / "out", "--corpus", corpus, "--langs", "ru")
    table = parquet.read_table(tmp_path / "out/texts.ru/metadata/metadata_0.parquet").to_pydict()
    prepared = Corpus(corpus)
    paths = [prepared.images("test")[row] for row, _ in prepared.rows("test", "ru")]
    assert table == {"image_path": paths, "caption": prepared.captions("test", "ru"), "language": ["ru"] * len(paths)}
    images = parquet.read_table(tmp_path / "out/images/metadata/metadata_0.parquet").to_pydict()
    first = [row for row, _ in prepared.rows("test", "en")].index(3)
    assert images["caption"][3] == prepared.captions("test", "en")[first]
