"""Token ids: English ones are those of OpenAI's package, grown ones those of the reference."""

import random
from importlib import import_module

import pytest
from golden import load_golden

from mlvl_fairseq.data.text import ClipTokenizer, Vocabulary, clip_vocabulary, train_bpe
from mlvl_fairseq.fairseq_patches import import_clip

BOS, EOS = 49406, 49407

TEXTS = [
    "A man is playing in the park.",
    "a dog's toy; we've seen they're two, I'm sure it'll don't'd",
    "Two  boys\tand\n3 girls, 1234 times (50%) — at 7:30!",
    "#hashtag @home $5.99 a/b c_d [e] {f} ~g~ `h` ^i^ x=y+z",
    "café naïve jalapeño über straße œuvre",
    "emoji 😀🏖️ and symbols ©®™ ½ ² Ⅷ",
    "一个男人在公园里玩耍",
    "كلب يجري على الشاطئ",
    "रंगीन पतंग उड़ाता बच्चा",
    "кот сидит на столе",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "...!!! ??? --- 'quoted' \"double\"",
    "a",
    "",
    "   ",
]


@pytest.fixture(scope="module")
def openai():
    import_clip()
    return import_module("clip.simple_tokenizer").SimpleTokenizer()


@pytest.fixture(scope="module")
def ours():
    return ClipTokenizer(clip_vocabulary())


def test_vocabulary_is_openai_s(openai):
    vocabulary = clip_vocabulary()
    assert (len(vocabulary), len(vocabulary.merges)) == (49408, 48894)
    assert {token: i for i, token in enumerate(vocabulary.tokens)} == openai.encoder
    assert {merge: rank for rank, merge in enumerate(vocabulary.merges)} == openai.bpe_ranks


def test_specials(ours):
    assert (ours.bos, ours.eos, len(ours)) == (BOS, EOS, 49408)


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_openai_s(openai, ours, text):
    assert ours.encode(text) == openai.encode(text)


def test_ids_of_random_text_are_openai_s(openai, ours):
    rng = random.Random(0)
    pieces = [*"abcdefghijklmnopqrstuvwxyzABCXYZ0123456789    ''.,!?-()éüñß漢字кот", "the ", "ing ", "'s ", "'re "]
    for _ in range(300):
        text = "".join(rng.choices(pieces, k=rng.randint(1, 40)))
        assert ours.encode(text) == openai.encode(text), text


def test_batches_and_strings_agree_with_single_captions(ours):
    assert ours.encode_batch(TEXTS) == [ours.encode(text) for text in TEXTS]
    tokens = ours.vocabulary.tokens
    assert [ours.tokens(text) for text in TEXTS] == [[tokens[i] for i in ours.encode(text)] for text in TEXTS]


def test_text_cannot_name_the_special_tokens(ours):
    """OpenAI's encoder would end the sentence here."""
    assert not {BOS, EOS} & set(ours.encode("a cat<|endoftext|> <|startoftext|> on a mat"))


def test_composed_and_decomposed_letters_are_the_same(ours):
    assert ours.encode("cafe\u0301") == ours.encode("café")


def given_language(base, language):
    """A vocabulary with the golden sample's tokens at their golden ids, and merges that lead to them.

    The reference's own merges are not reproducible (ties followed a hash map), but the sample's pieces are known: how
    CLIP cuts it, and how it is cut after the new merges.
    """
    new = [None] * language["num_unique"]
    for token, token_id in zip(language["sample_tokens"], language["sample_ids"][1:-1]):
        if token_id >= len(base):
            new[token_id - len(base)] = token
    pieces, merges, made = iter(language["cut_by_clip"]), [], set(new)
    for token in language["sample_tokens"]:
        left = next(pieces)
        while left != token:
            merges.append((left, next(pieces)))
            left = "".join(merges[-1])
            if left not in made and left not in base.tokens:
                made.add(left)
                new[new.index(None)] = left
    unused = [token or f"unused-{language['lang']}-{i}" for i, token in enumerate(new)]
    shared = random.Random(0).sample(base.tokens, language["num_overlap"])
    return Vocabulary(shared + unused, list(dict.fromkeys(merges)))


def test_samples_of_four_languages_get_the_reference_s_ids():
    vocabulary = clip_vocabulary()
    for language in load_golden("vocabulary")["languages"]:
        assert len(vocabulary) == language["old"]
        assert ClipTokenizer(clip_vocabulary()).tokens(language["sample"]) == language["cut_by_clip"]
        added = given_language(vocabulary, language)
        assert len(added) == language["size"]
        vocabulary = vocabulary.grown_by(added)
        tokenizer = ClipTokenizer(vocabulary)
        assert len(tokenizer) == language["new"]
        assert tokenizer.tokens(language["sample"]) == language["sample_tokens"]
        assert [BOS, *tokenizer.encode(language["sample"]), EOS] == language["sample_ids"]
        assert (tokenizer.bos, tokenizer.eos) == (BOS, EOS)


def count_changed(before, after, captions):
    return sum(first != second for first, second in zip(map(before.tokens, captions), map(after.tokens, captions)))


def test_later_languages_cut_earlier_captions_anew_as_in_the_reference():
    """Drift: Portuguese brings a merge that joins what Spanish had in two pieces."""
    golden = load_golden("drift")
    spanish, (caption, learned, final) = golden["corpora"]["es"], golden["example"]["es"].values()
    vocabulary = clip_vocabulary().grown_by(train_bpe(spanish, golden["vocab_size"]))
    portuguese = Vocabulary(["sal", "ta</w>", "salta</w>"], [("sal", "ta</w>")])
    before, after = ClipTokenizer(vocabulary), ClipTokenizer(vocabulary.grown_by(portuguese))
    assert before.tokens(caption) == learned and after.tokens(caption) == final
    assert f"{count_changed(before, after, spanish)}/{len(spanish)}" == golden["changed_captions_vs_final"]["es"]


def test_vocabularies_that_grow_from_nothing_drift():
    golden = load_golden("drift")
    vocabulary, tokenizers = Vocabulary([], []), {}
    for lang in golden["order"]:
        own = train_bpe(golden["corpora"][lang], golden["vocab_size"])
        assert len(own) == golden["vocab_size"]
        vocabulary = vocabulary.grown_by(own)
        tokenizers[lang] = ClipTokenizer(vocabulary)
    changed = [count_changed(tokenizers[lang], tokenizers["ro"], golden["corpora"][lang]) for lang in golden["order"]]
    assert changed[0] > 0 and changed[-1] == 0
    example = golden["example"]["es"]["caption"]
    assert tokenizers["es"].tokens(example) != tokenizers["ro"].tokens(example)
