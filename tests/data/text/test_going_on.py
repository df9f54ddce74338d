"""Which tokenizers go on with the ids of another one, and what is said of weights whose ids mean something else."""

import json
import shutil

import pytest

from mlvl_fairseq.data.text import ClipTokenizer, Vocabulary, clip_vocabulary
from mlvl_fairseq.data.text.going_on import require_tokenizer_of_folder, tokenizer_to_go_on
from mlvl_fairseq.data.text.sentencepiece import SentencePieceTokenizer, train_sentencepiece
from mlvl_fairseq.data.text.wordpiece import WordPieceTokenizer
from mlvl_fairseq.errors import UserError

LINES = {"one": "a red ball\nblue balls\n" * 3, "other": "a hum\nmugs hugs\n" * 3}
PIECES = 13


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """Folders of two SentencePiece models with as many pieces."""
    folders = {}
    for name, lines in LINES.items():
        folders[name] = tmp_path_factory.mktemp(name)
        (folders[name] / "text").write_text(lines)
        train_sentencepiece([folders[name] / "text"], folders[name], PIECES)
    return folders


def write_words(folder, *words, **config):
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words]) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, **config}))
    return WordPieceTokenizer.load(folder)


def test_pieces_go_on_with_the_same_pieces_however_texts_are_cleaned(pieces, tmp_path):
    one, other = (SentencePieceTokenizer(pieces[name]) for name in ("one", "other"))
    assert len(one) == len(other)
    assert one.continues(one.prepared("cclm")) and not one.continues(other)
    plain = tmp_path / "plain"  # as Hugging Face has it, and with counts as fairseq's releases
    shutil.copytree(pieces["one"], plain)
    (plain / "dict.txt").write_text((plain / "dict.txt").read_text().replace(" 1\n", " 7\n"))
    assert one.fingerprint != SentencePieceTokenizer(plain).fingerprint
    assert one.continues(SentencePieceTokenizer(plain))
    first, second, *rest = (plain / "dict.txt").read_text().splitlines(keepends=True)
    (plain / "dict.txt").write_text("".join([second, first, *rest]))
    assert not one.continues(SentencePieceTokenizer(plain))


def test_words_go_on_with_the_same_words(pieces, tmp_path):
    one, other = write_words(tmp_path / "one", "a", "b"), write_words(tmp_path / "other", "b", "a")
    assert one.continues(one.prepared("lilt", ends_texts=False)) and not one.continues(other)
    assert not one.continues(write_words(tmp_path / "cased", "a", "b", do_lower_case=False))
    assert not one.continues(SentencePieceTokenizer(pieces["one"]))


def test_a_grown_vocabulary_goes_on_with_what_it_was_grown_from():
    own = clip_vocabulary()
    de, fr = (own.grown_by(Vocabulary([token], [])) for token in ("xqqde</w>", "xqqfr</w>"))
    both = de.grown_by(Vocabulary(["xqqfr</w>"], []))
    assert ClipTokenizer(both).continues(ClipTokenizer(de)) and ClipTokenizer(de).continues(ClipTokenizer(own))
    assert not ClipTokenizer(de).continues(ClipTokenizer(fr)) and not ClipTokenizer(de).continues(ClipTokenizer(both))
    state = ClipTokenizer(fr).checkpoint_state()
    with pytest.raises(UserError, match=r"^--init-from de\.pt was trained with another .* the same languages"):
        tokenizer_to_go_on(state, "de.pt", ClipTokenizer(de))


def test_a_checkpoint_is_told_by_what_it_says_of_its_tokenizer(pieces, tmp_path, caplog):
    one = SentencePieceTokenizer(pieces["one"])
    state = SentencePieceTokenizer(pieces["other"]).checkpoint_state()
    with pytest.raises(UserError) as error:
        tokenizer_to_go_on(state, "x.pt", one, pieces["other"])
    assert str(error.value).startswith("--init-from x.pt was trained with another tokenizer (sentencepiece ")
    assert str(error.value).endswith(f": give its own, {pieces['other']}, or other weights")
    with pytest.raises(UserError, match=f"^{pieces['one']} is not the tokenizer that x.pt was trained with"):
        tokenizer_to_go_on(state, "x.pt", one, tmp_path / "gone")
    moved = tokenizer_to_go_on(one.prepared("cclm").checkpoint_state(), "x.pt", one, tmp_path / "gone")
    assert moved.cleaning == "cclm" and moved.continues(one) and not caplog.messages
    assert tokenizer_to_go_on({}, "x.pt", one) is one
    assert caplog.messages[0].startswith("--init-from x.pt does not say how its texts were cut: this run's tokenizer")


def test_weights_with_another_tokenizer_beside_them_are_refused(pieces, tmp_path, caplog):
    one = SentencePieceTokenizer(pieces["one"])
    for fine in (pieces["one"], tmp_path, pieces["other"] / "text"):
        require_tokenizer_of_folder(one, fine, "--text-weights")
    with pytest.raises(UserError, match=f"^--text-weights {pieces['other']} was trained with another tokenizer"):
        require_tokenizer_of_folder(one, pieces["other"], "--text-weights")
    (tmp_path / "sentencepiece.bpe.model").write_bytes(b"no model")
    require_tokenizer_of_folder(one, tmp_path, "--text-weights")
    assert "cannot be compared" in caplog.text


def test_texts_are_cut_to_words_once_they_are_cleaned(pieces, tmp_path):
    text = "a, red - ball balls"
    one = SentencePieceTokenizer(pieces["one"], "cclm")
    assert one.of_words(2).encode_batch([text]) == one.encode_batch(["a red"])
    assert one.of_words(2).name == f"{one.name}-2words" and one.of_words(0).fingerprint == one.fingerprint
    assert len({one.fingerprint, one.of_words(2).fingerprint, one.of_words(3).fingerprint}) == 3
    assert one.of_words(2).prepared("cclm").max_words == 0
    words = write_words(tmp_path / "words", "a", "red", "ball").prepared("cclm")
    assert words.of_words(2).encode_batch([text]) == words.encode_batch(["a red"])
    assert words.of_words(2).name == f"{words.name}-2words" != words.name and words.of_words(0).name == words.name
    assert words.of_words(2).fingerprint != words.fingerprint
    with pytest.raises(UserError, match="^--max-words 2 does nothing with a tokenizer of the kind 'vocabulary'"):
        ClipTokenizer(clip_vocabulary()).of_words(2)
