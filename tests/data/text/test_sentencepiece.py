import io
import itertools
import sys
from argparse import Namespace

import pytest
from fairseq.data import encoders

from mlvl_fairseq.data.text.sentencepiece import SentencePieceTokenizer, load_xlmr_dictionary, train_sentencepiece
from mlvl_fairseq.errors import DataError, UserError

WORDS = itertools.product(("big", "small"), ("red", "blue"), ("dog", "house", "boat"), ("left", "right", "table"))
SENTENCES = [f"A {size} {color} {thing} on the {place}." for size, color, thing, place in WORDS]
SENTENCES += ["Ein großes Haus.", "大的房子"]
SIZE = 36
TEXTS = [*SENTENCES[:3], "", "  spaces\tand\u3000others ", "unknown \u2603\u2603 signs", "<s> <mask> </s> <unk>", "ﬁ ½"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spm")
    (folder / "text").write_text("\n".join(SENTENCES) + "\n", encoding="utf-8")
    train_sentencepiece([folder / "text"], folder / "model", SIZE)
    return folder / "model"


def test_ids_are_those_of_fairseq(folder):
    """Pieces made by fairseq's own encoder and looked up by its dictionary, as fairseq-preprocess does it."""
    tokenizer, dictionary = SentencePieceTokenizer(folder), load_xlmr_dictionary(folder)
    stock = encoders.build_bpe(
        Namespace(
            bpe="sentencepiece",
            sentencepiece_model=str(folder / "sentencepiece.bpe.model"),
            sentencepiece_enable_sampling=False,
            sentencepiece_alpha=None,
        )
    )
    expected = [
        dictionary.encode_line(stock.encode(text), add_if_not_exist=False, append_eos=False).tolist() for text in TEXTS
    ]
    assert tokenizer.encode_batch(TEXTS) == expected
    assert any(dictionary.unk() in ids for ids in expected)
    for text, ids in zip(TEXTS, expected):
        assert " ".join(tokenizer.tokens(text)) == stock.encode(text)
        assert tokenizer.decode(tokenizer.tokens(text)) == stock.decode(stock.encode(text))
        assert tokenizer.decode([0, *ids, 2, 1]) == stock.decode(dictionary.string(ids))
    assert tokenizer.decode(tokenizer.encode_batch(SENTENCES[:1])[0]) == SENTENCES[0]


def test_dictionary_has_the_ids_of_xlmr(folder):
    dictionary = load_xlmr_dictionary(folder)
    assert (dictionary.bos(), dictionary.pad(), dictionary.eos(), dictionary.unk()) == (0, 1, 2, 3)
    assert dictionary.symbols[:4] == ["<s>", "<pad>", "</s>", "<unk>"] and dictionary.symbols[-1] == "<mask>"
    assert len(dictionary) == SIZE + 2
    pieces = [line.split(" ")[0] for line in (folder / "dict.txt").read_text(encoding="utf-8").splitlines()]
    assert dictionary.symbols[4:-1] == pieces
    assert load_xlmr_dictionary(folder / "dict.txt") == dictionary


def test_dictionary_saved_by_fairseq_is_read_alike(folder, tmp_path):
    dictionary = load_xlmr_dictionary(folder)
    dictionary.save(str(tmp_path / "dict.txt"))  # with <mask>, as fairseq-preprocess --task mte_pretraining
    assert load_xlmr_dictionary(tmp_path).symbols == dictionary.symbols


def test_training_is_deterministic(folder, tmp_path):
    (tmp_path / "text").write_text("\n".join(SENTENCES) + "\n", encoding="utf-8")
    train_sentencepiece([tmp_path / "text"], tmp_path, SIZE)
    for name in ("sentencepiece.bpe.model", "dict.txt"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert SentencePieceTokenizer(tmp_path).fingerprint == SentencePieceTokenizer(folder).fingerprint


def test_fingerprint_follows_both_files(folder, tmp_path):
    for name in ("sentencepiece.bpe.model", "dict.txt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with open(tmp_path / "dict.txt", "a", encoding="utf-8") as file:
        file.write("more 1\n")
    assert SentencePieceTokenizer(tmp_path).fingerprint != SentencePieceTokenizer(folder).fingerprint


def test_bad_files_are_named(folder, tmp_path):
    with pytest.raises(DataError, match="dict.txt: no such file; give XLM-R"):
        SentencePieceTokenizer(tmp_path)
    (tmp_path / "dict.txt").write_text("no number here\n")
    with pytest.raises(DataError, match="dict.txt: not a fairseq dictionary"):
        load_xlmr_dictionary(tmp_path)
    (tmp_path / "dict.txt").write_text("<mask> 1\na 1\n")
    with pytest.raises(DataError, match="<mask> is not its last entry"):
        load_xlmr_dictionary(tmp_path)
    (tmp_path / "dict.txt").write_text("a 1\n")
    with pytest.raises(DataError, match="sentencepiece.bpe.model: no such file; give an XLM-R folder"):
        SentencePieceTokenizer(tmp_path)
    for content in (b"nonsense", b""):
        (tmp_path / "sentencepiece.bpe.model").write_bytes(content)
        with pytest.raises(DataError, match="sentencepiece.bpe.model: is damaged"):
            SentencePieceTokenizer(tmp_path)
    (tmp_path / "sentencepiece.bpe.model").write_bytes((folder / "sentencepiece.bpe.model").read_bytes())
    with pytest.raises(DataError, match="lacks .* of the 36 pieces"):
        SentencePieceTokenizer(tmp_path)


def test_training_on_too_little_text_says_so(tmp_path):
    (tmp_path / "text").write_text("one line\n")
    with pytest.raises(UserError, match="no SentencePiece model of 5000 pieces from 1 files: Vocabulary size"):
        train_sentencepiece([tmp_path / "text"], tmp_path, 5000)
    (tmp_path / "empty").write_text("")
    with pytest.raises(UserError, match="from 1 files: "):
        train_sentencepiece([tmp_path / "empty"], tmp_path, 50)
    with pytest.raises(DataError, match="missing: no such file"):
        train_sentencepiece([tmp_path / "missing"], tmp_path, 50)
    (tmp_path / "latin1").write_bytes("größer\n".encode("latin-1"))
    with pytest.raises(DataError, match="latin1:1: is not UTF-8"):
        train_sentencepiece([tmp_path / "latin1"], tmp_path, 50)
    (tmp_path / "later").write_bytes(b"ein Ball\n" * 20 + b"\0\n")
    with pytest.raises(DataError, match="later:21: holds a NUL byte; mend or delete it$"):
        train_sentencepiece([tmp_path / "later"], tmp_path, 50)
    assert not (tmp_path / "dict.txt").exists()


def test_commands(run_here, folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "text").write_text("\n".join(SENTENCES) + "\n", encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        run_here("mlvl-sentencepiece", tmp_path / "out", "--train", tmp_path / "text", "--vocab-size", SIZE)
    assert ended.value.code == 0
    assert (tmp_path / "out" / "dict.txt").read_bytes() == (folder / "dict.txt").read_bytes()
    text = io.TextIOWrapper(io.BytesIO("A big dog\n\n大的房子\n".encode()))
    monkeypatch.setattr(sys, "stdin", text)
    stdout = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", stdout)
    with pytest.raises(SystemExit):
        run_here("mlvl-encode", "--sentencepiece", folder)
    stdout.flush()
    lines = stdout.buffer.getvalue().decode().split("\n")
    tokenizer = SentencePieceTokenizer(folder)
    assert lines == [" ".join(tokenizer.tokens(text)) for text in ("A big dog", "", "大的房子")] + [""]


def test_standard_input_without_end(run_here, folder, monkeypatch, capsys):
    with open("/dev/zero", "rb") as endless:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(endless))
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO()))
        with pytest.raises(SystemExit) as ended:
            run_here("mlvl-encode", "--sentencepiece", folder)
    assert ended.value.code == 2 and "standard input:1: holds a NUL byte" in capsys.readouterr().err


@pytest.mark.parametrize("content, line", [(b"good\n\xffbad\n", 2), ("größer".encode("latin-1"), 1)])
def test_standard_input_that_is_not_utf8_is_named_with_its_line(run_here, folder, monkeypatch, capsys, content, line):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO()))
    with pytest.raises(SystemExit) as ended:
        run_here("mlvl-encode", "--sentencepiece", folder)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"error: standard input:{line}: " in said and "is not UTF-8; convert it first" in said


def test_texts_are_cleaned_before(folder):
    plain, cleaned = SentencePieceTokenizer(folder), SentencePieceTokenizer(folder).prepared("lilt")
    assert cleaned.encode_batch(["A BIG, dog!"]) == plain.encode_batch(["a big dog"])
    assert cleaned.tokens("A BIG, dog!") == plain.tokens("a big dog") != plain.tokens("A BIG, dog!")
    assert cleaned.fingerprint != plain.fingerprint and cleaned.name == f"{plain.name}-lilt"
    again = SentencePieceTokenizer.from_state(cleaned.checkpoint_state(), "file", folder)
    assert again.fingerprint == cleaned.fingerprint and again.cleaning == "lilt"
    assert SentencePieceTokenizer.from_state(plain.checkpoint_state(), "file", folder).fingerprint == plain.fingerprint
    with pytest.raises(UserError, match="--cleaning soap: there are"):
        plain.prepared("soap")
    with pytest.raises(DataError, match="task_state.sentencepiece_cleaning"):
        SentencePieceTokenizer.from_state({**plain.checkpoint_state(), "sentencepiece_cleaning": 3}, "file", folder)


def test_a_folder_of_hugging_face_has_no_dictionary(folder, tmp_path):
    """Its ids are those of the pieces' own order."""
    model = "sentencepiece.bpe.model"
    (tmp_path / model).write_bytes((folder / model).read_bytes())
    tokenizer, other = SentencePieceTokenizer(tmp_path), SentencePieceTokenizer(folder)
    assert tokenizer.encode_batch(TEXTS) == other.encode_batch(TEXTS)
    assert tokenizer.fingerprint == other.fingerprint  # the dictionary that training wrote
    tokenizer.write_dictionary(tmp_path / "written.txt")
    assert (tmp_path / "written.txt").read_bytes() == (folder / "dict.txt").read_bytes()
