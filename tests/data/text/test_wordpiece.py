"""WordPiece: LilT's own ids, folders of either kind, what is damaged, and a checkpoint that is enough."""

import io
import json
import logging

import pytest
from golden import FIXTURES

from mlvl_fairseq.cli import encode, prepare
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.text import load_tokenizer
from mlvl_fairseq.data.text.wordpiece import WordPieceTokenizer
from mlvl_fairseq.data.token_files import open_tokens
from mlvl_fairseq.errors import DataError, UserError

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
UNCASED = [*SPECIAL, "a", "red", "dog", "##s", "eleve", "girl", "一", "名", "'", "!", "-"]
CASED = [*UNCASED, "A", "Élève"]
GOLDEN = json.loads((FIXTURES / "lilt" / "text.json").read_text(encoding="utf-8"))["tokenizer"]


@pytest.fixture
def folder(tmp_path):
    """Makes a folder of files: text, or what becomes JSON."""

    def make(**files):
        for name, content in files.items():
            name = name.replace("_txt", ".txt").replace("_json", ".json")
            text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
            (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path

    return make


def lines(tokens):
    return "\n".join(tokens) + "\n"


def fast(tokens, **normalizer):
    """What `transformers` writes as ``tokenizer.json``, as far as it matters."""
    return {
        "version": "1.0",
        "truncation": {"max_length": 128},
        "added_tokens": [{"id": 0, "content": "[PAD]", "special": True}],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "strip_accents": None,
            "lowercase": True,
            **normalizer,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": {token: i for i, token in enumerate(tokens)}},
    }


def pieces(tokenizer, text):
    return " ".join(tokenizer.tokens(text))


def test_golden_ids_without_an_end(folder):
    tokenizer = load_tokenizer(folder(vocab_txt=lines(GOLDEN["vocab"]))).prepared(ends_texts=False)
    for section, length in (("train_longest_max6", 6), ("eval_maxlen8", 8)):
        rows = zip(GOLDEN[section]["ids"], GOLDEN[section]["mask"])
        expected = [[int(i) for i, real in zip(ids, mask) if real] for ids, mask in rows]
        assert tokenizer.tokenize(GOLDEN["texts"], length) == expected
    assert tokenizer.pad == 0


def test_lower_case_and_accents(folder):
    tokenizer = load_tokenizer(folder(vocab_txt=lines(UNCASED), tokenizer_config_json={"do_lower_case": True}))
    assert pieces(tokenizer, "A red\tÉLÈVE's dogs!") == "a red eleve ' [UNK] dog ##s !"
    assert pieces(tokenizer, "一名girl") == "一 名 girl"
    assert tokenizer.encode_batch(["a dog", ""]) == [[5, 7], []]
    assert tokenizer.decode([5, 7, 8]) == "a dogs"


def test_cased(folder):
    tokenizer = load_tokenizer(folder(vocab_txt=lines(CASED), tokenizer_config_json={"do_lower_case": False}))
    assert pieces(tokenizer, "A Élève a Dog") == "A Élève a [UNK]"
    stripped = load_tokenizer(folder(tokenizer_config_json={"do_lower_case": False, "strip_accents": True}))
    assert pieces(stripped, "A élève") == "A eleve"


@pytest.mark.parametrize(
    "vocabulary, said", [(UNCASED, "lower-cased: it is, as"), (CASED, "lower-cased: it is not, as")]
)
def test_without_a_word_about_case_the_vocabulary_tells(folder, vocabulary, said, caplog):
    with caplog.at_level(logging.WARNING):
        tokenizer = load_tokenizer(folder(vocab_txt=lines(vocabulary)))
    assert said in caplog.text
    assert pieces(tokenizer, "A") == ("a" if vocabulary is UNCASED else "A")


def test_tokenizer_json_gives_the_same_as_vocab_txt(folder, tmp_path_factory):
    text = folder(vocab_txt=lines(CASED), tokenizer_config_json={"do_lower_case": False})
    other = tmp_path_factory.mktemp("fast")
    (other / "tokenizer.json").write_text(json.dumps(fast(CASED, lowercase=False)), encoding="utf-8")
    first, second = load_tokenizer(text), load_tokenizer(other)
    assert first.fingerprint == second.fingerprint and second.option == "wordpiece"
    folder(tokenizer_json=fast(CASED))  # the configuration beside it wins
    assert load_tokenizer(text).fingerprint == first.fingerprint


def test_files_as_transformers_writes_them(folder):
    """Its "no limit" has more than 64 bits."""
    config = {"do_lower_case": False, "model_max_length": 10**30, "tokenizer_class": "BertTokenizer"}
    tokenizer = load_tokenizer(folder(vocab_txt=lines(UNCASED), tokenizer_config_json=config))
    assert not tokenizer.pieces.lowercase


def test_a_text_cannot_name_special_tokens(folder):
    tokenizer = load_tokenizer(folder(vocab_txt=lines([*UNCASED, "[", "]", "sep"])))
    assert pieces(tokenizer, "a [SEP] dog") == "a [ sep ] dog"


@pytest.mark.parametrize(
    "files, message",
    [
        ({"vocab_txt": lines(UNCASED[2:])}, r"vocab.txt: lacks \[PAD\], \[UNK\]: this is no vocabulary of a BERT"),
        ({"vocab_txt": lines([*UNCASED, "dog"])}, "vocab.txt:17: holds 'dog' a second time; the first is line 8"),
        ({"vocab_txt": lines([*UNCASED, "", "x"])}, "vocab.txt:17: token '' is empty"),
        (
            {"vocab_txt": lines(UNCASED), "tokenizer_json": fast(CASED)},
            "vocab.txt: holds other tokens than token",
        ),
        ({"tokenizer_json": {"model": {"type": "BPE"}}}, "tokenizer.json: is no tokenizer of a BERT"),
        ({"tokenizer_json": {**fast(UNCASED), "pre_tokenizer": {"type": "Whitespace"}}}, "is no tokenizer of a BERT"),
        ({"tokenizer_json": {**fast(UNCASED), "added_tokens": [{"content": "<x>"}]}}, "adds tokens .*, as '<x>'"),
        ({"tokenizer_json": {**fast(UNCASED), "model": {"vocab": {"a": 1}}}}, "ids are not 0, 1, 2"),
        ({"tokenizer_json": "{"}, "tokenizer.json: not JSON"),
        ({"vocab_txt": lines(UNCASED), "tokenizer_config_json": {"do_lower_case": "yes"}}, "field 'do_lower_case'"),
    ],
)
def test_damaged_folders_are_one_line(folder, files, message):
    with pytest.raises(DataError, match=message) as error:
        load_tokenizer(folder(**files))
    assert "\n" not in str(error.value)


def test_a_checkpoint_is_enough(folder):
    tokenizer = load_tokenizer(folder(vocab_txt=lines(CASED))).prepared("lilt", ends_texts=False)
    state = json.loads(json.dumps(tokenizer.checkpoint_state()))
    again = WordPieceTokenizer.from_state(state)
    assert (again.fingerprint, again.name, again.ends_texts) == (tokenizer.fingerprint, tokenizer.name, False)
    assert again.tokenize(["A Dog!"], 9) == tokenizer.tokenize(["A Dog!"], 9) == [[2, 5, 7]]
    for damaged in ({"wordpiece": {**state["wordpiece"], "lowercase": 1}}, {"wordpiece": {"tokens": []}}):
        with pytest.raises(DataError, match="x.pt field 'task_state"):
            WordPieceTokenizer.from_state(damaged, "x.pt")


def test_preparations_are_in_name_and_fingerprint(folder):
    plain = load_tokenizer(folder(vocab_txt=lines(UNCASED)))
    assert plain.prepared() is not None and plain.prepared().name == plain.name
    cleaned, bare = plain.prepared("lilt"), plain.prepared(ends_texts=False)
    assert len({one.fingerprint for one in (plain, cleaned, bare)}) == 3
    assert cleaned.name == f"wordpiece-{cleaned.fingerprint[:12]}-lilt"
    assert bare.name == f"wordpiece-{bare.fingerprint[:12]}-unended"
    assert (pieces(plain, "dog-s!"), pieces(cleaned, "dog-s!")) == ("dog - [UNK] !", "dog [UNK]")
    assert cleaned.encode_batch(["Dog!"]) == [[7]] and bare.encode_batch(["Dog!"]) == [[7, 14]]
    with pytest.raises(UserError, match="--cleaning albef: there are cclm, cclm_question, lilt, none"):
        plain.prepared("albef")


def test_dictionaries_have_the_rows_of_the_vocabulary(folder, tmp_path):
    tokenizer = load_tokenizer(folder(vocab_txt=lines([*UNCASED, "\u2028"])))
    tokenizer.write_dictionary(tmp_path / "dict.txt")
    dictionary = WordPieceTokenizer.load_dictionary(tmp_path / "dict.txt")
    assert dictionary.symbols == [*UNCASED, "\u2028"]
    assert (dictionary.pad(), dictionary.unk(), dictionary.bos(), dictionary.eos()) == (0, 1, 2, 3)
    ids = dictionary.encode_line("a dog ##s what", add_if_not_exist=False).tolist()
    assert ids == [5, 7, 8, 1, 3]
    (tmp_path / "dict.txt").write_text("a 1\n")
    with pytest.raises(DataError, match=r"no \[CLS\] and no \[SEP\] and no \[PAD\] and no \[UNK\]"):
        WordPieceTokenizer.load_dictionary(tmp_path / "dict.txt")


def test_prepared_corpora(folder, tmp_path, caplog):
    words = folder(vocab_txt=lines(UNCASED))
    (tmp_path / "en.json").write_text(
        json.dumps([{"image": "1.jpg", "caption": "A dog!"}, {"image": "2.jpg", "caption": "dogs"}])
    )
    files = ["--languages", "en", "--train", str(tmp_path / "en.json"), "--bpe-size", "60"]
    options = ["--wordpiece", str(words), "--cleaning", "lilt", "--no-end-token"]
    with caplog.at_level("INFO"):
        prepare.main([str(tmp_path / "corpus"), *files, *options])
    assert f"--task image_text_retrieval --tokenizer-folder {words} --arch lilt_base" in caplog.messages[-1]
    name = load_tokenizer(words).prepared("lilt", ends_texts=False).name
    captions = open_tokens(Corpus(tmp_path / "corpus").folder / "bin" / name / "en" / "train")
    assert [captions[row].tolist() for row in range(2)] == [[5, 7, 3], [7, 8, 3]]
    with pytest.raises(DataError, match="lacks .CLS.: this is no vocabulary of a BERT"):
        (words / "vocab.txt").write_text(lines(piece for piece in UNCASED if piece != "[CLS]"))
        prepare.main([str(tmp_path / "new"), *files, *options])
    assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match="--cleaning lilt does nothing without the folder of a tokenizer"):
        prepare.main([str(tmp_path / "corpus"), "--cleaning", "lilt"])


def test_encoded_lines(folder, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"A dog!\n")))
    monkeypatch.setattr("sys.stdout.reconfigure", lambda **_: None, raising=False)
    encode.main(["--wordpiece", str(folder(vocab_txt=lines(UNCASED))), "--cleaning", "lilt"])
    assert capsys.readouterr().out == "a dog\n"
