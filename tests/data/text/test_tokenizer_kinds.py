"""Kinds of tokenizers: each is found by what a folder holds, and commands take a new one, one class, by themselves."""

import hashlib
import io
import json

import pytest
from fairseq.data import Dictionary

from mlvl_fairseq.cli import encode, prepare
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.text import (
    ClipTokenizer,
    Tokenizer,
    base,
    load_tokenizer,
    register_tokenizer,
    tokenizer_kinds,
    train_bpe,
)
from mlvl_fairseq.data.text.sentencepiece import SentencePieceTokenizer, train_sentencepiece
from mlvl_fairseq.data.token_files import open_tokens
from mlvl_fairseq.errors import DataError, UserError

TEXTS = ["a red ball", "two blue boxes and a red ball", "a box"]
WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", "red", "ball"]

KINDS = ["vocabulary", "sentencepiece", "wordpiece"]
WORDPIECES = [*WORDS, "blue", "box", "##es", "two", "and"]


@pytest.fixture
def words_kind(monkeypatch):
    """A newcomer's tokenizer: whole words of ``words.txt``, in the order of ids."""
    monkeypatch.setattr(base, "TOKENIZERS", dict(base.TOKENIZERS))

    @register_tokenizer("words", "whole words: folder with words.txt")
    class WordTokenizer(Tokenizer):
        def __init__(self, words):
            self.words = words
            self.pad, self.bos, self.eos, self.unk = (words.index(f"[{name}]") for name in ("PAD", "CLS", "SEP", "UNK"))

        @classmethod
        def detect(cls, folder):
            return (folder / "words.txt").exists()

        @classmethod
        def load(cls, folder):
            with open(f"{folder}/words.txt") as file:
                return cls(file.read().split())

        @classmethod
        def load_dictionary(cls, path):
            raise NotImplementedError

        @classmethod
        def from_state(cls, state, source=None, folder=None):
            return None

        @property
        def name(self):
            return f"words-{self.fingerprint[:4]}"

        @property
        def fingerprint(self):
            return hashlib.sha256(" ".join(self.words).encode()).hexdigest()

        @property
        def dictionary(self):
            made = Dictionary(bos="[CLS]", pad="[PAD]", eos="[SEP]", unk="[UNK]", add_special_symbols=False)
            for word in self.words:
                made.add_symbol(word)
            return made

        def write_dictionary(self, path):
            path.write_text("".join(f"{word} 1\n" for word in self.words))

        def __len__(self):
            return len(self.words)

        def encode_batch(self, texts):
            return [[self.words.index(t) if t in self.words else self.unk for t in text.split()] for text in texts]

        def tokens(self, text):
            return [self.words[i] for i in self.encode_batch([text])[0]]

        def decode(self, ids):
            return " ".join(self.words[i] for i in ids)

        def checkpoint_state(self):
            return {"words": self.fingerprint}

    return WordTokenizer


@pytest.fixture
def words_folder(tmp_path):
    folder = tmp_path / "words"
    folder.mkdir()
    (folder / "words.txt").write_text("\n".join(WORDS) + "\n")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of each kind that is there, by the name of its option."""
    clip, pieces = tmp_path_factory.mktemp("clip"), tmp_path_factory.mktemp("pieces")
    train_bpe(TEXTS * 4, 60).save(clip)
    (pieces / "text").write_text("\n".join(TEXTS * 4) + "\n")
    train_sentencepiece([pieces / "text"], pieces, 20)
    (words := tmp_path_factory.mktemp("wordpiece") / "vocab.txt").write_text("\n".join(WORDPIECES) + "\n")
    return {"vocabulary": clip, "sentencepiece": pieces, "wordpiece": words.parent}


def test_every_kind_has_a_folder_here(folders):
    """So that what is tested below holds for a kind that is new."""
    assert {kind.option for kind in tokenizer_kinds()} == folders.keys()


def test_a_folder_tells_its_kind(folders, tmp_path):
    for option, folder in folders.items():
        assert load_tokenizer(folder).option == option
        assert [kind.option for kind in tokenizer_kinds() if kind.detect(folder)] == [option]
    with pytest.raises(
        UserError,
        match="holds no tokenizer: .*--sentencepiece.*dict.txt.*--vocabulary.*vocab.json.*--wordpiece.*vocab.txt",
    ):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("option", KINDS)
def test_what_every_kind_promises(folders, option, tmp_path):
    tokenizer = load_tokenizer(folders[option])
    again = load_tokenizer(folders[option])
    assert tokenizer.fingerprint == again.fingerprint and len(tokenizer.fingerprint) == 64
    assert json.loads(json.dumps(tokenizer.checkpoint_state())) == tokenizer.checkpoint_state()
    ids = tokenizer.encode_batch(TEXTS)
    assert [tokenizer.decode(row) for row in ids] == TEXTS
    dictionary = tokenizer.dictionary
    assert (dictionary.bos(), dictionary.eos(), dictionary.pad()) == (tokenizer.bos, tokenizer.eos, tokenizer.pad)
    assert len(dictionary) == len(tokenizer) > max(map(max, ids))
    assert [dictionary.index(token) for token in tokenizer.tokens(TEXTS[1])] == ids[1]
    assert tokenizer.tokenize(TEXTS[1:2], 5) == [[tokenizer.bos, *ids[1][:3], tokenizer.eos]]
    assert tokenizer.tokenize(TEXTS[1:2], 99) == [[tokenizer.bos, *ids[1], tokenizer.eos]]
    tokenizer.write_dictionary(tmp_path / "dict.txt")
    assert type(tokenizer).load_dictionary(tmp_path / "dict.txt").symbols == dictionary.symbols
    with pytest.raises(DataError, match="dict"):
        type(tokenizer).load_dictionary(tmp_path / "absent.txt")


def test_names_are_those_of_signatures_and_folders(folders):
    clip, pieces, words = (load_tokenizer(folder) for folder in folders.values())
    assert isinstance(clip, ClipTokenizer) and clip.name == "clip-bpe"
    assert isinstance(pieces, SentencePieceTokenizer) and pieces.name == f"spm-{pieces.fingerprint[:12]}"
    assert words.name == f"wordpiece-{words.fingerprint[:12]}"


def encoded(monkeypatch, capsys, *options):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(TEXTS).encode())))
    monkeypatch.setattr("sys.stdout.reconfigure", lambda **_: None, raising=False)
    encode.main([str(option) for option in options])
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("option", KINDS)
def test_mlvl_encode_takes_each_kind_by_its_option_or_any_folder(folders, option, monkeypatch, capsys):
    expected = [" ".join(load_tokenizer(folders[option]).tokens(text)) for text in TEXTS]
    assert encoded(monkeypatch, capsys, f"--{option}", folders[option]) == expected
    assert encoded(monkeypatch, capsys, "--tokenizer", folders[option]) == expected


def test_a_new_kind_is_an_option_of_mlvl_encode(words_kind, words_folder, monkeypatch, capsys):
    expected = ["a red ball", "[UNK] [UNK] [UNK] [UNK] a red ball", "a [UNK]"]
    assert encoded(monkeypatch, capsys, "--words", words_folder) == expected
    assert encoded(monkeypatch, capsys, "--tokenizer", words_folder) == expected


def test_a_new_kind_is_an_option_of_mlvl_prepare(words_kind, words_folder, tmp_path):
    rows = [{"image": f"{i}.jpg", "caption": text} for i, text in enumerate(TEXTS)]
    (tmp_path / "en.json").write_text(json.dumps(rows))
    files = ["--languages", "en", "--train", str(tmp_path / "en.json"), "--bpe-size", "60"]
    prepare.main([str(tmp_path / "corpus"), *files, "--words", str(words_folder)])
    name = words_kind(WORDS).name
    folder = Corpus(tmp_path / "corpus").folder / "bin" / name / "en"
    tokens = open_tokens(folder / "train")
    assert [tokens[row].tolist() for row in range(3)] == [[4, 5, 6, 2], [3, 3, 3, 3, 4, 5, 6, 2], [4, 3, 2]]
    assert (folder / "dict.txt").read_text().split()[::2] == WORDS


def test_kinds_that_corpora_make_by_themselves_are_no_option_of_mlvl_prepare(folders, tmp_path, capsys):
    with pytest.raises(SystemExit):
        prepare.main([str(tmp_path), "--vocabulary", str(folders["vocabulary"])])
    assert "unrecognized arguments: --vocabulary" in capsys.readouterr().err


def test_two_kinds_cannot_have_one_option(words_kind):
    with pytest.raises(ValueError, match="'words' is registered already"):
        register_tokenizer("words", "others")(words_kind)
