"""Captions of a corpus in SentencePiece's pieces: what is in the files, and what the command refuses."""

import numpy as np
import pytest

from mlvl_fairseq.data.captions import CaptionTable, Problems
from mlvl_fairseq.data.corpus.build import build_corpus
from mlvl_fairseq.data.corpus.prepare import binarize_all
from mlvl_fairseq.data.corpus.vocabularies import GivenVocabulary
from mlvl_fairseq.data.text.sentencepiece import SentencePieceTokenizer, load_xlmr_dictionary, train_sentencepiece
from mlvl_fairseq.data.token_files import open_tokens

TEXTS = {"en": ["a red ball", "a blue box and a red ball"], "de": ["ein roter Ball", "eine blaue Kiste"]}


def table(captions):
    rows = np.arange(len(captions), dtype=np.int32)
    return CaptionTable("file", [f"{row}.jpg" for row in rows], rows, captions, None, rows + 1, "line", Problems())


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "text").write_text("\n".join(sum(TEXTS.values(), []) * 4) + "\n")
    train_sentencepiece([folder / "text"], folder, 26)
    return SentencePieceTokenizer(folder)


@pytest.fixture(scope="module")
def corpus(tokenizer, tmp_path_factory):
    train, valid = {"en": table(TEXTS["en"])}, {lang: table(texts) for lang, texts in TEXTS.items()}
    corpus = build_corpus(tmp_path_factory.mktemp("corpus"), {"train": train, "valid": valid})
    binarize_all(corpus, tokenizer)
    return corpus


def test_every_language_of_training_and_validation(corpus, tokenizer):
    folder = GivenVocabulary(corpus, tokenizer).binarized("de")
    assert folder.parent.name == f"spm-{tokenizer.fingerprint[:12]}"
    assert not (folder / "train.bin").exists()  # a language that is only validated on
    tokens = open_tokens(folder / "valid")
    assert [tokens[row].tolist() for row in range(2)] == [[*ids, 2] for ids in tokenizer.encode_batch(TEXTS["de"])]
    assert tokenizer.decode(tokens[0].tolist()[:-1]) == "ein roter Ball"
    assert (folder / "dict.txt").read_bytes() == (tokenizer.folder / "dict.txt").read_bytes()
    assert load_xlmr_dictionary(folder).symbols == tokenizer.dictionary.symbols


def test_another_tokenizer_has_a_folder_of_its_own(corpus, tokenizer, tmp_path):
    (tmp_path / "text").write_text("\n".join(TEXTS["de"] * 4) + "\n")
    train_sentencepiece([tmp_path / "text"], tmp_path, 20)
    other = GivenVocabulary(corpus, SentencePieceTokenizer(tmp_path))
    assert other.folder != GivenVocabulary(corpus, tokenizer).folder


def test_done_once(corpus, tokenizer):
    path = GivenVocabulary(corpus, tokenizer).binarized("en") / "train.bin"
    before = path.stat().st_mtime_ns
    binarize_all(corpus, tokenizer)
    assert path.stat().st_mtime_ns == before
