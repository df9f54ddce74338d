"""English partners for captions of other languages."""

from collections import Counter

import numpy as np

from mlvl_fairseq.data.captions import Problems, TableBuilder, english_rows, unmatched_english


def table(*rows, path="captions"):
    """A table of ``(image, caption)`` or ``(image, caption, english)`` rows."""
    builder = TableBuilder(path, Problems())
    for line, columns in enumerate(rows, 1):
        builder.add(line, *columns)
    return builder.table()


def test_by_order_of_the_image_s_captions():
    target = table(("b", "b0"), ("a", "a0"), ("a", "a1"), ("x", "x0"), ("a", "a2"), ("b", "b1"), path="de.json")
    english = table(("a", "A0"), ("b", "B0"), ("u", "U0"), ("a", "A1"), ("b", "B1"))
    rows = english_rows(target, english)
    assert rows.dtype == np.int32
    assert [english.captions[r] if r >= 0 else None for r in rows] == ["B0", "A0", "A1", None, "A0", "B1"]
    assert target.problems.examples == {"unpaired caption": ["de.json:4 field 'image': no English caption of 'x'"]}
    sentences, extra = unmatched_english(target, rows)
    assert sentences == [] and extra.tolist() == [-1] * 6


def test_without_a_common_image():
    rows = english_rows(table(("a", "a0"), ("b", "b0")), table(("c", "C0")), problems := Problems())
    assert rows.tolist() == [-1, -1] and problems.counts == {"unpaired caption": 2}


def test_by_sentence_the_same_image_goes_first():
    sentences = [("b", "a dog"), ("a", "a dog"), ("a", "a bird"), ("x", "a cat"), ("a", "a bird"), ("c", "a cow"),
                 ("x", "a fox")]  # fmt: skip
    target = table(*((image, f"t{i}", sentence) for i, (image, sentence) in enumerate(sentences)), path="t.tsv")
    english = table(("a", "a dog"), ("b", "a cat"), ("b", "a dog"), ("b", "a dog"), ("c", "a cow"))
    problems = Problems()
    rows = english_rows(target, english, problems)
    assert rows.tolist() == [2, 0, -1, 1, -1, 4, -1]
    assert problems.counts == {"unknown English sentence": 3} and not target.problems
    assert problems.examples["unknown English sentence"][0] == (
        "t.tsv:3 field 'english': 'a bird' is not among the English captions"
    )
    new_sentences, extra = unmatched_english(target, rows)
    assert new_sentences == ["a bird", "a fox"] and extra.tolist() == [-1, -1, 0, -1, 0, -1, 1]
    everything = english.captions + new_sentences
    partners = np.where(extra >= 0, len(english) + extra, rows)
    assert [everything[partner] for partner in partners] == target.english


def random_rows(rng, images, columns):
    return [(f"{rng.integers(images)}.jpg", *(f"w{w}" for w in rng.integers(0, 60, columns))) for _ in range(400)]


def test_by_order_agrees_with_a_plain_loop():
    rng = np.random.default_rng(1)
    target_rows, english_list = random_rows(rng, 45, 1), random_rows(rng, 40, 1)
    seen, expected = Counter(), []
    for image, _ in target_rows:
        choices = [row for row, (other, _) in enumerate(english_list) if other == image]
        expected.append(choices[seen[image] % len(choices)] if choices else -1)
        seen[image] += 1
    assert -1 in expected and english_rows(table(*target_rows), table(*english_list)).tolist() == expected


def test_by_sentence_agrees_with_a_plain_loop():
    rng = np.random.default_rng(2)
    target_rows, english_list = random_rows(rng, 45, 2), random_rows(rng, 40, 1)
    english_list = [row for row in english_list if row[1] != "w7"]
    expected = []
    for image, _, sentence in target_rows:
        same = [row for row, pair in enumerate(english_list) if pair == (image, sentence)]
        anywhere = [row for row, (_, caption) in enumerate(english_list) if caption == sentence]
        expected.append((same + anywhere + [-1])[0])
    assert -1 in expected and english_rows(table(*target_rows), table(*english_list)).tolist() == expected
