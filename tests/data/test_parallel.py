"""Sampling and batching of translation directions, on small binarized files."""

from collections import Counter

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import make_builder

from mlvl_fairseq.data.parallel import (
    Direction,
    DirectionSampler,
    ParallelDataset,
    SentenceOptions,
    Sentences,
    find_directions,
    load_dictionaries,
    load_direction,
    parse_directions,
    sources_for_inference,
)
from mlvl_fairseq.errors import DataError, UserError

SIZES = {"de-en": 40, "en-fr": 7}
LANGUAGES = {"en": 1, "de": 2, "fr": 3}
DE_EN, EN_DE, EN_FR, FR_EN = parse_directions("de-en,en-de,en-fr,fr-en")


def sentence(pair, lang, number):
    """Length and content tell pair, language and number."""
    length = 2 + (number * {"de": 5, "en": 3, "fr": 7}[lang]) % 11
    first = 10 + 5 * list(SIZES).index(pair) + list(LANGUAGES).index(lang)
    return torch.tensor([first] + [20 + number] * (length - 2) + [2])


def write(path, sentences):
    builder = make_builder(f"{path}.bin", "mmap", 100)
    for ids in sentences:
        builder.add_item(ids)
    builder.finalize(f"{path}.idx")


@pytest.fixture(scope="module")
def dictionary():
    dictionary = Dictionary()
    for i in range(90):
        dictionary.add_symbol(f"w{i}")
    return dictionary


@pytest.fixture(scope="module")
def folder(tmp_path_factory, dictionary):
    folder = tmp_path_factory.mktemp("fseq")
    for pair, size in SIZES.items():
        for lang in pair.split("-"):
            write(folder / f"train.{pair}.{lang}", [sentence(pair, lang, number) for number in range(size)])
            dictionary.save(str(folder / f"dict.{lang}.txt"))
    return folder


@pytest.fixture
def build(folder, dictionary):
    def dataset(directions, options=SentenceOptions(), sampler=None):
        loaded = {d: load_direction(folder, "train", d, dictionary, options) for d in directions}
        return ParallelDataset(loaded, LANGUAGES, sampler)

    return dataset


# Directions and files.


def test_directions_of_a_folder(folder):
    assert [str(direction) for direction in find_directions(folder)] == ["de-en", "en-de", "en-fr", "fr-en"]
    with pytest.raises(UserError, match="no parallel text valid.SRC-TGT.SRC.idx"):
        find_directions(folder, "valid")


@pytest.mark.parametrize("text", ["de", "de-en-fr", "de-de", "en-de,-en"])
def test_bad_directions(text):
    with pytest.raises(UserError, match="is no direction; write e.g. de-en,en-de"):
        parse_directions(text)


def test_directions_come_once():
    with pytest.raises(UserError, match="names de-en twice"):
        parse_directions("de-en,en-de,de-en")


def test_both_directions_come_from_the_same_files(build):
    for forward, backward, pair in ((DE_EN, EN_DE, "de-en"), (EN_FR, FR_EN, "en-fr")):
        one, other = build([forward]), build([backward])
        for number in range(SIZES[pair]):
            source, target = (sentence(pair, lang, number) for lang in forward)
            assert one[number]["source"].tolist() == [0, *source] and one[number]["target"].tolist() == target.tolist()
            assert other[number]["source"].tolist() == [0, *target]
            assert other[number]["target"].tolist() == source.tolist()


def test_missing_and_uneven_files(folder, dictionary, tmp_path):
    with pytest.raises(UserError, match=r"no parallel text train.de-fr.\{de,fr\}.idx \(nor train.fr-de"):
        load_direction(folder, "train", Direction("de", "fr"), dictionary, SentenceOptions())
    write(tmp_path / "train.de-en.de", [torch.tensor([5, 2])] * 2)
    write(tmp_path / "train.de-en.en", [torch.tensor([5, 2])])
    with pytest.raises(DataError, match="2 sentences, but 1 in train.de-en.en.idx"):
        load_direction(tmp_path, "train", DE_EN, dictionary, SentenceOptions())


def test_empty_and_damaged_files(dictionary, tmp_path):
    for name in ("train.de-en.de", "train.de-en.en"):
        write(tmp_path / name, [torch.tensor([5, 2])])
    path, index = tmp_path / "train.de-en.en.bin", tmp_path / "train.de-en.en.idx"
    whole, content = path.read_bytes(), index.read_bytes()
    for damaged, why in (
        (b"", "is truncated, or does not belong to train.de-en.en.idx"),
        (np.array([5, 60_000], np.uint16).tobytes(), "holds token 60000, the vocabulary ends at"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=f"train.de-en.en.bin: {why}.*; run fairseq-preprocess again"):
            load_direction(tmp_path, "train", DE_EN, dictionary, SentenceOptions())
    path.write_bytes(whole)
    for damaged in (b"MMIDIDX", content[:20], b"nonsense" * 9, content[:-8] + b"\2" + bytes(7)):
        index.write_bytes(damaged)
        with pytest.raises(DataError, match="train.de-en.en.idx: is .*; run fairseq-preprocess again"):
            load_direction(tmp_path, "train", DE_EN, dictionary, SentenceOptions())
    index.unlink()
    index.mkdir()
    with pytest.raises(DataError, match="train.de-en.en.idx: is a folder"):
        load_direction(tmp_path, "train", DE_EN, dictionary, SentenceOptions())


@pytest.mark.parametrize("impl", ["cached", "lazy", "mmap"])
def test_other_kinds_of_files(dictionary, tmp_path, impl):
    """``fairseq-preprocess --dataset-impl``; damaged ones are refused, whatever fairseq makes of them."""
    for lang in ("de", "en"):
        builder = make_builder(str(tmp_path / f"train.de-en.{lang}.bin"), impl, vocab_size=60_000)
        builder.add_item(torch.tensor([5, 2]))
        builder.finalize(str(tmp_path / f"train.de-en.{lang}.idx"))
    pairs = load_direction(tmp_path, "train", DE_EN, dictionary, SentenceOptions())
    assert pairs[0]["target"].tolist() == [5, 2]
    index = tmp_path / "train.de-en.en.idx"
    index.write_bytes(index.read_bytes()[:12])
    with pytest.raises(DataError, match=r"train.de-en.en\.\w+: is .*; run fairseq-preprocess again"):
        load_direction(tmp_path, "train", DE_EN, dictionary, SentenceOptions())


def test_one_dictionary_for_all(folder, dictionary, tmp_path):
    loaded = load_dictionaries(folder, ["en", "de", "fr"])
    assert loaded.symbols == [*dictionary.symbols, "<mask>"]
    (tmp_path / "dict.en.txt").write_text("a 1\nb 1\n")
    (tmp_path / "dict.de.txt").write_text("a 7\nb 1\n<mask> 1\n")  # the same for all that counts
    assert len(load_dictionaries(tmp_path, ["en", "de"])) == 7
    (tmp_path / "dict.de.txt").write_text("b 1\na 1\n")
    with pytest.raises(DataError, match="dict.de.txt: differs from dict.en.txt"):
        load_dictionaries(tmp_path, ["en", "de"])
    with pytest.raises(DataError, match="dict.fr.txt: no such file"):
        load_dictionaries(tmp_path, ["en", "fr"])


# Sentences.


@pytest.mark.parametrize("bos, truncate", [(0, 0), (None, 0), (0, 4), (None, 4), (0, 6)])
def test_sentences_keep_their_end(bos, truncate):
    tokens = [torch.tensor(ids + [2]) for ids in ([5, 6, 7, 8, 9], [5], [])]
    sentences = Sentences(tokens, np.array([6, 2, 1]), 2, bos, truncate)
    for ids, item, size in zip(tokens, sentences, sentences.sizes):
        whole = ids.tolist() if not truncate or len(ids) <= truncate else [*ids[: truncate - 1].tolist(), 2]
        assert item.tolist() == ([] if bos is None else [bos]) + whole
        assert len(item) == size


def test_published_sources_have_no_bos(build):
    plain = build([DE_EN], SentenceOptions(source_bos=False))
    assert plain[3]["source"].tolist() == sentence("de-en", "de", 3).tolist()
    assert plain.size(3) == (len(plain[3]["source"]), len(plain[3]["target"]))


def test_inference_has_sources_as_training_has(dictionary):
    tokens = [torch.tensor([5, 6, 7, 8, 2]), torch.tensor([5, 2])]
    dataset = sources_for_inference(tokens, [5, 2], dictionary, SentenceOptions(True, 4))
    assert [item["source"].tolist() for item in dataset] == [[0, 5, 6, 7, 2], [0, 5, 2]]
    assert dataset.src_sizes.tolist() == [5, 3]


# Sampling.


@pytest.mark.parametrize("temperature", [1, 5, 100])
def test_shares_follow_the_temperature(temperature):
    sizes = [100_000, 1000, 10]
    counts = DirectionSampler(sizes, temperature, 60_000).counts
    shares = (np.array(sizes) / sum(sizes)) ** (1 / temperature)
    np.testing.assert_allclose(counts, 60_000 * shares / shares.sum(), atol=1)
    assert sum(counts) == 60_000
    assert sum(DirectionSampler(sizes, temperature).counts) == sum(sizes)


def test_draws_are_functions_of_seed_and_epoch():
    draws = [DirectionSampler([30, 5], 5, seed=3).draw(epoch) for epoch in (1, 2, 1)]
    assert all(np.array_equal(one, other) for one, other in zip(draws[0], draws[2]))
    assert not np.array_equal(draws[0][0], draws[1][0])
    assert not np.array_equal(draws[0][0], DirectionSampler([30, 5], 5, seed=4).draw(1)[0])


def test_pairs_are_drawn_evenly():
    sampler = DirectionSampler([30, 5], 5)
    for size, count, drawn in zip(sampler.sizes, sampler.counts, sampler.draw(1)):
        times = Counter(drawn.tolist())
        assert sum(times.values()) == count and set(times) <= set(range(size))
        assert set(times.values()) <= {count // size, count // size + 1}
    assert sampler.counts[1] > 5  # oversampled


def test_bad_sampling():
    with pytest.raises(UserError, match="--sampling-temperature 0 is not positive"):
        DirectionSampler([3], 0)
    with pytest.raises(UserError, match="--virtual-epoch-size -1"):
        DirectionSampler([3], 1, -1)


# Batches.

ALL = [DE_EN, EN_DE, EN_FR, FR_EN]


def batches_of(dataset, epoch=1, max_tokens=40, max_positions=(9, 10)):
    dataset.set_epoch(epoch)
    indices, ignored = dataset.filter_indices_by_size(dataset.ordered_indices(), max_positions)
    return dataset.batch_by_size(indices, max_tokens=max_tokens), indices, ignored


def test_batches_keep_one_direction_when_long_pairs_are_left_out(build):
    dataset = build(ALL, sampler=DirectionSampler([40, 40, 7, 7], 5, seed=1))
    batches, indices, ignored = batches_of(dataset)
    assert ignored
    assert sorted(i for batch in batches for i in batch) == sorted(indices)
    for batch in batches:
        lengths = [dataset.size(i) for i in batch]
        assert all(source <= 9 and target <= 10 for source, target in lengths)
        assert len(batch) * max(map(max, lengths)) <= 40
        collated = dataset.collater([dataset[i] for i in batch])
        direction = ALL[collated["direction"]]
        assert collated["net_input"]["target_lang"] == LANGUAGES[direction.target]
        pair = "-".join(direction) if "-".join(direction) in SIZES else "-".join(reversed(direction))
        for row, number in enumerate(collated["numbers"].tolist()):
            source, target = (sentence(pair, lang, number).tolist() for lang in direction)
            tokens = collated["net_input"]["src_tokens"][row]
            assert tokens[tokens.ne(1)].tolist() == [0, *source]
            assert collated["source_lengths"][row] == 1 + len(source)
            assert collated["target"][row][collated["target"][row].ne(1)].tolist() == target
            previous = collated["net_input"]["prev_output_tokens"][row]
            assert previous[previous.ne(1)].tolist() == [2, *target[:-1]]
            assert ids_match(dataset, collated, row, direction)


def ids_match(dataset, collated, row, direction):
    return collated["id"][row] == dataset.starts[ALL.index(direction)] + collated["numbers"][row]


def test_epochs_differ_and_repeat(build):
    dataset = build(ALL, sampler=DirectionSampler([40, 40, 7, 7], 5, seed=1))
    first, second, again = (batches_of(dataset, epoch)[0] for epoch in (1, 2, 1))
    assert as_lists(first) == as_lists(again) != as_lists(second)


def as_lists(batches):
    return [list(map(int, batch)) for batch in batches]


def test_validation_has_every_pair_once(build):
    dataset = build(ALL)
    assert sorted(dataset.ordered_indices()) == list(range(len(dataset))) == list(range(94))
    assert dataset.direction_of([0, 39, 40, 79, 80, 86, 87, 93]).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert dataset.collater([]) == {}
