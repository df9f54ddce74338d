"""CLIP's vocabulary as fairseq's dictionary."""

import os
import pickle

import pytest
import torch

from mlvl_fairseq.data.text import BOS_TOKEN, EOS_TOKEN, ClipTokenizer, Vocabulary, clip_vocabulary, train_bpe
from mlvl_fairseq.errors import DataError

CAPTIONS = ["Ein Mädchen läuft über die Brücke!", "一个男人在公园里", "A man's 42 dogs", "¡Qué día más «lindo»!"]


@pytest.fixture(scope="module")
def vocabulary():
    return clip_vocabulary().grown_by(train_bpe(CAPTIONS * 2, 200))


@pytest.fixture(scope="module")
def path(vocabulary, tmp_path_factory):
    path = tmp_path_factory.mktemp("dictionary") / "dict.txt"
    ClipTokenizer(vocabulary).write_dictionary(path)
    return path


def test_ids_are_the_vocabulary_s_and_nothing_stands_before_them(path, vocabulary):
    dictionary = ClipTokenizer.load_dictionary(path)
    assert dictionary.symbols == vocabulary.tokens and len(dictionary) == len(vocabulary) > 49408
    assert dictionary.bos() == 49406
    assert dictionary.eos() == dictionary.pad() == dictionary.unk() == 49407
    own = ClipTokenizer(vocabulary).dictionary
    assert own.symbols == dictionary.symbols and (own.bos(), own.eos(), own.pad(), own.unk()) == (49406, *3 * [49407])


def test_every_caller_has_a_dictionary_of_its_own(path, vocabulary):
    dictionary = ClipTokenizer.load_dictionary(path)
    dictionary.add_symbol("a new one")
    dictionary.add_symbol(BOS_TOKEN, n=5)
    again = ClipTokenizer.load_dictionary(path)
    assert again.symbols == vocabulary.tokens and "a new one" not in again and set(again.count) == {1}


def test_encoded_lines_are_the_tokenizer_s_ids(path, vocabulary):
    dictionary, tokenizer = ClipTokenizer.load_dictionary(path), ClipTokenizer(vocabulary)
    for caption in CAPTIONS:
        line = " ".join(tokenizer.tokens(caption))
        ids = dictionary.encode_line(line, add_if_not_exist=False, append_eos=True)
        assert ids.tolist() == [*tokenizer.encode(caption), tokenizer.eos]
        assert dictionary.string(torch.tensor(tokenizer.encode(caption))) == line
    assert dictionary.encode_line("no-token", add_if_not_exist=False, append_eos=False).tolist() == [49407]


def test_saved_by_fairseq_and_loaded_again(path, tmp_path):
    dictionary = ClipTokenizer.load_dictionary(path)
    dictionary.save(str(tmp_path / "dict.txt"))
    assert (tmp_path / "dict.txt").read_bytes() == path.read_bytes()
    assert ClipTokenizer.load_dictionary(tmp_path / "dict.txt") == dictionary


def test_specials_may_stand_anywhere(tmp_path):
    ClipTokenizer(Vocabulary([EOS_TOKEN, "a", BOS_TOKEN], [])).write_dictionary(tmp_path / "dict.txt")
    dictionary = ClipTokenizer.load_dictionary(tmp_path / "dict.txt")
    assert (dictionary.eos(), dictionary.bos(), dictionary.pad()) == (0, 2, 0)


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("content, message", [
    ("a 1\nb\n".encode(), "expected '<token> <cnt>"),
    ("a one\n".encode(), "expected '<token> <cnt>"),
    ("a 1\na 1\n".encode(), "Duplicate word"),
    (b"\xff\xfe\x00", "not UTF-8"),
    (b"", "no .*startoftext.* and no .*endoftext.*: not a dictionary"),
    (f"{BOS_TOKEN} 1\n".encode(), "no .{2}endoftext.{2}: not a dictionary"),
    (b"<s> 1\n<pad> 1\n</s> 1\n", "no .*startoftext.*: not a dictionary"),
])  # fmt: skip
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "dict.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as raised:
        ClipTokenizer.load_dictionary(path)
    assert str(raised.value.path) == str(path)


@pytest.mark.parametrize("protocol", [0, 4])
def test_a_pickle_is_refused_and_not_executed(tmp_path, protocol):
    path = tmp_path / "dict.txt"
    path.write_bytes(pickle.dumps(Payload(tmp_path / "executed"), protocol))
    with pytest.raises(DataError, match="dict.txt:.*not (UTF-8|a fairseq dictionary)"):
        ClipTokenizer.load_dictionary(path)
    assert not (tmp_path / "executed").exists()


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="dict.txt: no such file; give a fairseq dictionary"):
        ClipTokenizer.load_dictionary(tmp_path / "dict.txt")
