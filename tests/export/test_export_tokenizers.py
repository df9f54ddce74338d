"""Tokenizers as files of other programs: the same ids, for every kind and every preparation of captions."""

import json

import pytest
import sentencepiece
from tokenizers import Tokenizer

from mlvl_fairseq.data.text import ClipTokenizer
from mlvl_fairseq.data.text.sentencepiece import SentencePieceTokenizer
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.export.samples import LONG_CAPTION, OWN_CAPTIONS
from mlvl_fairseq.export.tokenizers import unfit_tokenizer, write_clip_tokenizer, write_fast_tokenizer

CAPTIONS = [
    *OWN_CAPTIONS,
    LONG_CAPTION,
    " - a dog's/cat's  <person>,  runs!?",
    "word " * 40,
    "(a) - b",
    "\n x \n",
    "ﬁx ①½",
]


@pytest.fixture(params=["clip", "lilt", "wordpiece", "xlmr", "xlmr-lilt"])
def tokenizer(request, grown, wordpieces, pieces):
    kinds = {
        "clip": lambda: ClipTokenizer(grown),
        "lilt": lambda: wordpieces,
        "wordpiece": lambda: wordpieces.prepared(),
        "xlmr": lambda: SentencePieceTokenizer(pieces),
        "xlmr-lilt": lambda: SentencePieceTokenizer(pieces, "lilt"),
    }
    return kinds[request.param]()


def test_fast_tokenizers_give_our_ids(tokenizer, tmp_path):
    write_fast_tokenizer(tokenizer, tmp_path, 20)
    fast = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ours = tokenizer.tokenize(CAPTIONS, 20)
    assert max(map(len, ours)) == 20 and len({tuple(ids) for ids in ours}) > 20
    for caption, ids in zip(CAPTIONS, ours):
        assert fast.encode(caption).ids == ids, caption
    batch = fast.encode_batch(CAPTIONS[:3])
    assert [row.ids for row in batch] == [ids + [tokenizer.pad] * (20 - len(ids)) for ids in ours[:3]]
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["model_max_length"] == 20


def test_ours_is_as_it_was(tokenizer, tmp_path):
    before = tokenizer.tokenize(CAPTIONS, 20)
    write_fast_tokenizer(tokenizer, tmp_path, 9)
    assert tokenizer.tokenize(CAPTIONS, 20) == before


def test_files_of_clip_s_tokenizer_are_read_again(grown, tmp_path):
    write_clip_tokenizer(ClipTokenizer(grown), tmp_path, 77)
    again = ClipTokenizer.load(tmp_path)
    assert again.vocabulary == grown and len(grown) > 49_408
    said = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert (said["tokenizer_class"], said["pad_token"]) == ("CLIPTokenizer", "<|endoftext|>")


def test_a_language_s_own_cuts_need_the_language(grown):
    frozen = ClipTokenizer(grown, {"en": (49_410, 48_900), "de": (49_500, 49_000)})
    reason = unfit_tokenizer(frozen, None)
    assert "give --lang with one of en,de" in reason and "frozen" in reason
    assert unfit_tokenizer(frozen, "fr") == reason and unfit_tokenizer(frozen, "de") is None
    assert unfit_tokenizer(ClipTokenizer(grown), None) is None


def test_cleanings_that_no_other_program_has_are_told(pieces):
    assert "cleaned by 'cclm'" in unfit_tokenizer(SentencePieceTokenizer(pieces, "cclm"), None)


def test_spaces_that_are_kept_cannot_be_said(tmp_path):
    (tmp_path / "text").write_text("a red dog\nblue balls\n" * 3, encoding="utf-8")
    train = "--input={0}/text --model_prefix={0}/m --vocab_size=14 --remove_extra_whitespaces=false --minloglevel=2"
    sentencepiece.SentencePieceTrainer.train(train.format(tmp_path))
    (tmp_path / "m.model").rename(tmp_path / "sentencepiece.bpe.model")
    with pytest.raises(DataError, match="keeps spaces as they are"):
        write_fast_tokenizer(SentencePieceTokenizer(tmp_path), tmp_path, 20)
