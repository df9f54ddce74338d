"""What tasks on a corpus share: which tokenizer they have, what they say when it is not there, and recall."""

import math

import numpy as np
import pytest
import torch
from fairseq.logging import metrics

from mlvl_fairseq.data.captions import CaptionTable, Problems
from mlvl_fairseq.data.corpus.build import build_corpus
from mlvl_fairseq.data.corpus.prepare import binarize_all, prepare_vocabularies
from mlvl_fairseq.data.corpus.vocabularies import GivenVocabulary, GrownVocabulary
from mlvl_fairseq.data.text import ClipTokenizer, clip_vocabulary
from mlvl_fairseq.data.text.sentencepiece import SentencePieceTokenizer, train_sentencepiece
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.tasks._base import CaptionTask, CaptionTaskConfig
from mlvl_fairseq.tasks._validation import RecallScores
from mlvl_fairseq.tasks.trikd import TrikdTask

TEXTS = {"en": ["a red ball", "a blue box and a red ball"], "de": ["ein roter Ball", "eine blaue Kiste"]}


def table(captions):
    rows = np.arange(len(captions), dtype=np.int32)
    return CaptionTable("file", [f"{row}.jpg" for row in rows], rows, captions, None, rows + 1, "line", Problems())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    tables = {"train": {lang: table(texts) for lang, texts in TEXTS.items()}}
    return build_corpus(tmp_path_factory.mktemp("corpus"), tables, bpe_size=60)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "text").write_text("\n".join(sum(TEXTS.values(), []) * 4) + "\n")
    train_sentencepiece([folder / "text"], folder, 26)
    return SentencePieceTokenizer(folder)


def new_task(vocabulary, langs):
    return CaptionTask(CaptionTaskConfig(data=str(vocabulary.corpus.folder), seed=1), vocabulary, langs)


@pytest.mark.parametrize("kind", ["clip", "pieces"])
def test_one_class_serves_every_tokenizer(corpus, pieces, kind):
    prepare_vocabularies(corpus, joint=["en", "de"])
    binarize_all(corpus, pieces)
    vocabulary = GrownVocabulary(corpus, ["en", "de"]) if kind == "clip" else GivenVocabulary(corpus, pieces)
    task = new_task(vocabulary, ["en", "de"])
    assert type(task.tokenizer) is (ClipTokenizer if kind == "clip" else SentencePieceTokenizer)
    assert len(task.source_dictionary) == len(task.target_dictionary) == len(task.tokenizer)
    dataset = task.load_captions("train", ["de", "en"], shuffle=False)
    batch = dataset.collater([dataset[row] for row in (3, 0)])
    tokens, ends = batch["net_input"]["tokens"].tolist(), batch["net_input"]["eos_positions"].tolist()
    own = task.tokenizer.tokenize([TEXTS["en"][1], TEXTS["de"][0]], 77)
    assert [row[: end + 1] for row, end in zip(tokens, ends)] == own
    assert tokens[1][ends[1] + 1 :] == [task.tokenizer.pad] * (len(own[0]) - len(own[1])) != []
    state = task.state_dict()
    if kind == "clip":
        assert clip_vocabulary().with_additions(state["vocabulary"]) == task.tokenizer.vocabulary
        assert state["vocabulary"]["tokens"]
    else:
        assert state["sentencepiece"] == pieces.fingerprint


def test_captions_that_are_not_binarized_are_told_with_their_command(corpus, pieces, tmp_path):
    prepare_vocabularies(corpus, order=["de", "en"])
    task = new_task(GrownVocabulary(corpus, ["de", "en"]), ["en"])
    assert len(task.load_captions("train", ["en"])) == 2
    with pytest.raises(UserError, match=r"no .*de\+en/de/train.bin; make them with: mlvl-prepare .* --joint de,en$"):
        task.load_captions("train", ["de"])
    (tmp_path / "text").write_text("\n".join(TEXTS["de"] * 4) + "\n")
    train_sentencepiece([tmp_path / "text"], tmp_path, 20)
    other = GivenVocabulary(corpus, SentencePieceTokenizer(tmp_path), tmp_path)
    with pytest.raises(UserError, match=rf"no binarized captions .*; .*mlvl-prepare .* --sentencepiece {tmp_path}$"):
        new_task(other, ["en"]).load_captions("train", ["en"])


def test_fairseq_preprocess_reads_a_dictionary_as_the_task_s_tokenizer_does(corpus, pieces, tmp_path):
    prepare_vocabularies(corpus)
    clip = CaptionTask.load_dictionary(str(corpus.folder / "bin" / "clip" / "dict.txt"))
    assert clip.symbols == clip_vocabulary().tokens and clip.pad() == clip.eos() == 49407
    xlmr = TrikdTask.load_dictionary(str(pieces.folder / "dict.txt"))
    assert xlmr.symbols[:4] == ["<s>", "<pad>", "</s>", "<unk>"] and xlmr.symbols[-1] == "<mask>"


def unit(*angles):
    radians = torch.tensor(angles, dtype=torch.float64) * math.pi / 180
    return torch.stack([radians.cos(), radians.sin()], dim=1)


# Captions 0 to 2 of language 0, 3 and 4 of language 1, each beside its image; two angles and what is nearest by eye.
TEXT, IMAGES = [0, 52, 90, 10, 60], {0: 0, 1: 45, 2: 88}
IMAGE_OF, LANGUAGE_OF = [0, 1, 2, 0, 1], [0, 0, 0, 1, 1]


def batch_of(rows):
    ids = torch.tensor(rows)
    sample = {"id": ids, "image_ids": torch.tensor([IMAGE_OF[row] for row in rows])}
    sample["lang_ids"] = torch.tensor([LANGUAGE_OF[row] for row in rows])
    features = {"text": unit(*(TEXT[row] for row in rows)), "image": unit(*(IMAGES[IMAGE_OF[row]] for row in rows))}
    return sample, features


def test_recall_is_that_of_the_whole_set_however_it_came():
    """Language 0 finds everything; in language 1 both captions find their image among the two that it has."""
    scores = RecallScores(["aa", "bb"])
    with metrics.aggregate(new_root=True) as whole:
        for rows in ([4, 0], [2, 3, 1], [0]):  # the last one pads a rank: it comes again
            scores.add(*batch_of(rows))
            metrics.log_scalar("loss", 1.0, len(rows))
            scores.log([{"sample_size": len(rows)}])
    values = whole.get_smoothed_values()
    assert values["r_mean_aa"] == values["txt_r1"] == values["img_r1"] == 100
    assert set(scores.names) <= values.keys()


def test_recall_of_wrong_neighbours():
    """Image 1 at 88 degrees and image 2 at 45: captions at 52 and 90 find each other's image first, not their own."""
    scores = RecallScores()
    sample, features = batch_of([0, 1, 2])
    features["image"] = unit(0, 88, 45)
    scores.add(sample, features)
    again, its_features = batch_of([1])  # pads a rank: it does not count twice
    scores.add(again, {**its_features, "image": unit(88)})
    values = scores.compute()
    third = pytest.approx(100 / 3)
    assert (values["txt_r1"], values["img_r1"], values["txt_r5"], values["img_r10"]) == (third, third, 100, 100)


def test_a_language_that_has_not_come_has_no_score():
    scores = RecallScores(["aa", "bb"])
    scores.add(*batch_of([0, 1, 2]))
    values = scores.compute()
    assert values["r_mean_aa"] == 100 and math.isnan(values["r_mean_bb"]) and math.isnan(values["r_mean"])


def test_a_dummy_batch_says_that_its_rows_do_not_count(corpus, monkeypatch):
    """fairseq gives a rank without a batch one that it has had, and multiplies its loss by 0."""
    task, seen = new_task(GrownVocabulary(corpus), ["en"]), []
    monkeypatch.setattr("fairseq.tasks.FairseqTask.train_step", lambda self, sample, *_: seen.append(sample))
    sample = {"id": torch.tensor([4, 7, 9])}
    task.train_step(sample, None, None, None, 0)
    task.train_step(sample, None, None, None, 0, ignore_grad=True)
    assert "counts" not in seen[0] and seen[1]["counts"].tolist() == [False] * 3 and "counts" not in sample


def test_batches_are_built_anew_in_every_epoch(corpus):
    """Else a restart would have other batches than the run it goes on with."""
    assert new_task(GrownVocabulary(corpus), ["en"]).cfg.rebuild_batches
