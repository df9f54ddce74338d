"""Vocabularies that grow, travel in checkpoints and lie on disk."""

import hashlib
import json

import pytest

from mlvl_fairseq.data.text import BOS_TOKEN, EOS_TOKEN, ClipTokenizer, Vocabulary, clip_vocabulary, train_bpe
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.picture_world import WorldSettings, get_language, language_codes, plan_world

OLD = Vocabulary([BOS_TOKEN, EOS_TOKEN, "a", "b", "c</w>", "ab"], [("a", "b")])
NEW = Vocabulary(
    [BOS_TOKEN, EOS_TOKEN, "b", "c</w>", "d", "bc</w>", "ab", "dd"], [("b", "c</w>"), ("a", "b"), ("d", "d")]
)


def test_growing_appends_ids_and_keeps_the_rank_of_old_merges():
    grown = OLD.grown_by(NEW)
    assert grown.tokens == [*OLD.tokens, "d", "bc</w>", "dd"]
    assert grown.merges == [("a", "b"), ("b", "c</w>"), ("d", "d")]
    assert grown.grown_by(NEW) == grown == grown.grown_by(OLD)
    assert (len(OLD), len(NEW)) == (6, 8)  # neither has changed


def test_old_merges_win_where_both_apply():
    new_first = Vocabulary([*NEW.tokens, "a"], NEW.merges)
    assert ClipTokenizer(new_first).tokens("abc") == ["a", "bc</w>"]
    assert ClipTokenizer(OLD.grown_by(NEW)).tokens("abc") == ["ab", "c</w>"]


def test_sizes_follow_lexical_overlap():
    """CLIP's vocabulary holds all 256 bytes: a language adds nothing but merges."""
    german = train_bpe(["ein mann läuft am strand", "eine frau läuft über die brücke"] * 5, 60)
    grown = clip_vocabulary().grown_by(german)
    overlap = len(set(german.tokens) & set(clip_vocabulary().tokens))
    assert len(grown) == 49408 + len(german) - overlap
    assert 0 < len(grown) - 49408 <= len(german.merges)
    assert grown.tokens[:49408] == clip_vocabulary().tokens and grown.merges[:48894] == clip_vocabulary().merges


def test_additions_travel_as_plain_lists():
    base = clip_vocabulary()
    grown = base.grown_by(train_bpe(["un chien court", "un chat dort là"] * 3, 40))
    additions = json.loads(json.dumps(grown.additions(base)))
    assert base.with_additions(additions) == grown
    assert len(additions["tokens"]) == len(grown) - len(base)
    assert base.with_additions(base.additions(base)) == base


def test_fingerprint_follows_tokens_merges_and_order():
    others = [
        Vocabulary(OLD.tokens[::-1], OLD.merges),
        Vocabulary(OLD.tokens, []),
        Vocabulary([*OLD.tokens, "x"], OLD.merges),
        Vocabulary(NEW.tokens, NEW.merges[::-1]),
        NEW,
        OLD,
    ]
    assert len({vocabulary.fingerprint for vocabulary in others}) == len(others)
    known = hashlib.sha256(json.dumps([OLD.tokens, [["a", "b"]]]).encode()).hexdigest()
    assert OLD.fingerprint == Vocabulary(list(OLD.tokens), list(OLD.merges)).fingerprint == known


def test_files_bring_back_what_was_saved(tmp_path):
    vocabulary = clip_vocabulary().grown_by(train_bpe(["ein mädchen läuft", "一个男人"] * 3, 80))
    vocabulary.save(tmp_path / "new" / "folder")
    assert Vocabulary.load(tmp_path / "new" / "folder") == vocabulary
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == ["merges.txt", "vocab.json"]


@pytest.fixture
def folder(tmp_path):
    OLD.save(tmp_path)
    return tmp_path


@pytest.mark.parametrize("content", [
    b"", b"{", b'{"a": 0, "b": 1', b"[]", b"[0, 1]", b"null", b'"text"', b"{}", b'{"a": 0, "b": 2}',
    b'{"a": 0, "b": 0}', b'{"a": 1}', b'{"a": "0"}', b'{"a": null, "b": 1}', b'{"a": 0, "a": 1}', b"\xff\xfe{}",
    b"\x80\x04\x95", b"[" * 99999, b'{"a": 0, "b": 1, "ab": 2}',
])  # fmt: skip
def test_broken_tokens_are_refused(folder, content):
    (folder / "vocab.json").write_bytes(content)
    with pytest.raises(DataError, match="vocab.json"):
        Vocabulary.load(folder)


@pytest.mark.parametrize("content, line", [
    (b"#version: 0.2\na b\na b c\n", 3),
    (b"#version: 0.2\na b\n\nab\n", 4),
    (b"#version: 0.2\na c</w>\n", 2),
    (b"#version: 0.2\na  b\n", 2),
    (b"a b\n", 1),
    (b"", 1),
    (b"#version: 0.2\n\xff b\n", 2),
])  # fmt: skip
def test_broken_merges_are_refused_with_their_line(folder, content, line):
    (folder / "merges.txt").write_bytes(content)
    with pytest.raises(DataError, match="merges.txt:") as raised:
        Vocabulary.load(folder)
    assert raised.value.line == line


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_missing_files_say_what_to_do(folder, name):
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"{name}: no such file; make it .*mlvl-prepare"):
        Vocabulary.load(folder)


def test_without_clip_s_package_its_vocabulary_is_asked_for(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install openai-clip"):
        clip_vocabulary.__wrapped__()


REAL = [
    "  Ein   Mädchen, das 12 Äpfel isst!  ",
    "it's the dogs' ball, isn't it? they'll 'start",
    "เด็กผู้หญิงกำลังกินแอปเปิล",
    "一个女孩在吃12个苹果。",
    "लड़की सेब खा रही है",
    "İstanbul'da J\u030c x\u0301",
    "a\u0308 ist ä",
    "emoji \U0001f469\u200d\U0001f467 here…",
    "<|x|> </w> 'S",
    "한국어 캡션",
    "مرحبا، بالعالم",
]


def test_decoded_ids_are_cut_as_the_text_was():
    """In all languages of the picture world and real text, also by a vocabulary that has grown since."""
    pictures = plan_world(WorldSettings(train=6, valid=1, test=1))["train"]
    plans = [plan for picture in pictures for plan in picture.plans]
    texts = REAL + [get_language(code).caption(plan) for code in language_codes() for plan in plans]
    then = clip_vocabulary()
    later = then.grown_by(train_bpe(texts[: len(texts) // 2], 600)).grown_by(train_bpe(texts, 900))
    encoder, now = ClipTokenizer(then), ClipTokenizer(later)
    decoded = [then.decode(ids) for ids in encoder.encode_batch(texts)]
    assert encoder.encode_batch(decoded) == encoder.encode_batch(texts)
    assert now.encode_batch(decoded) == now.encode_batch(texts) != encoder.encode_batch(texts)


def test_decoded_words_are_separated_by_one_space():
    vocabulary = clip_vocabulary()
    assert vocabulary.decode(ClipTokenizer(vocabulary).encode("Zwei  Äpfel, 12!")) == "zwei äpfel , 1 2 !"
    assert vocabulary.decode([]) == ""


def test_files_that_hold_the_same_are_parsed_once(tmp_path):
    """As soon as they hold something else, that is read."""
    OLD.save(tmp_path)
    assert Vocabulary.load(tmp_path) is Vocabulary.load(tmp_path) and Vocabulary.load(tmp_path) == OLD
    NEW.save(tmp_path)
    assert Vocabulary.load(tmp_path) == NEW
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b c\n")
    with pytest.raises(DataError, match="merges.txt:2: not a merge"):
        Vocabulary.load(tmp_path)
