"""Captions as batches: padding, cutting, order, and the features that stand beside them."""

import numpy as np
import pytest
import torch
from fairseq.data import data_utils, indexed_dataset
from torch.utils.data import ConcatDataset, DataLoader, Subset

from mlvl_fairseq.data.caption_dataset import CaptionDataset, Captions, join_batches

BOS, EOS = 98, 99
CAPTIONS = [[1, 2, 3], [4], [], [5, 6, 7, 8, 9, 10], [11, 12]]
ROWS = np.array([[3, 0], [3, 1], [0, -1], [2, 1], [1, 0]], np.int32)


def dataset(**options):
    tokens = [torch.tensor([*caption, EOS], dtype=torch.int32) for caption in CAPTIONS]
    sizes = np.array([len(caption) for caption in tokens])
    return CaptionDataset(tokens, sizes, ROWS, BOS, EOS, **options)


def batch(captions, rows):
    return captions.collater([captions[row] for row in rows])


def test_tokens_are_framed_and_padded_on_the_right():
    result = batch(dataset(), [0, 2, 4])
    tokens = [[BOS, 1, 2, 3, EOS], [BOS, EOS, EOS, EOS, EOS], [BOS, 11, 12, EOS, EOS]]
    assert result["net_input"]["tokens"].tolist() == tokens
    assert result["net_input"]["eos_positions"].tolist() == [4, 1, 3]
    assert isinstance(result["net_input"]["lengths"], np.ndarray)  # which no trainer moves to a GPU
    assert result["net_input"]["lengths"].tolist() == [5, 2, 4]
    assert result["net_input"]["tokens"].dtype == torch.int64
    assert (result["nsentences"], result["ntokens"]) == (3, 11)
    assert result["id"].tolist() == [0, 2, 4] and result["image_ids"].tolist() == [3, 0, 1]
    assert "text_features" not in result and "image_features" not in result


@pytest.mark.parametrize("max_length, expected", [
    (3, [[BOS, 5, EOS], [BOS, 4, EOS]]),
    (7, [[BOS, 5, 6, 7, 8, 9, EOS], [BOS, 4, EOS, EOS, EOS, EOS, EOS]]),
    (8, [[BOS, 5, 6, 7, 8, 9, 10, EOS], [BOS, 4, EOS, EOS, EOS, EOS, EOS, EOS]]),
])  # fmt: skip
def test_long_captions_are_cut_and_keep_their_end(max_length, expected):
    captions = dataset(max_length=max_length)
    result = batch(captions, [3, 1])
    assert result["net_input"]["tokens"].tolist() == expected
    assert result["net_input"]["eos_positions"].tolist() == [len(expected[0]) - 1, 2]
    assert result["net_input"]["lengths"].tolist() == [len(expected[0]), 3]
    assert [captions.num_tokens(row) for row in (3, 1)] == [min(8, max_length), 3]
    assert captions.num_tokens_vec(np.array([3, 1])).tolist() == [min(8, max_length), 3]
    assert captions.sizes.max() <= max_length


def test_padding_may_be_a_token_of_its_own():
    result = batch(dataset(pad=1, max_length=5), [0, 2, 3])
    tokens = [[BOS, 1, 2, 3, EOS], [BOS, EOS, 1, 1, 1], [BOS, 5, 6, 7, EOS]]
    assert result["net_input"]["tokens"].tolist() == tokens
    assert result["net_input"]["eos_positions"].tolist() == [4, 1, 4]


@pytest.mark.parametrize("max_length, expected", [
    (3, [[BOS, 5, 6], [BOS, 4, 0], [BOS, 0, 0]]),
    (7, [[BOS, 5, 6, 7, 8, 9, 10], [BOS, 4, 0, 0, 0, 0, 0], [BOS, 0, 0, 0, 0, 0, 0]]),
    (9, [[BOS, 5, 6, 7, 8, 9, 10], [BOS, 4, 0, 0, 0, 0, 0], [BOS, 0, 0, 0, 0, 0, 0]]),
])  # fmt: skip
def test_texts_may_have_no_end(max_length, expected):
    captions = dataset(pad=0, max_length=max_length, ends_texts=False)
    result = batch(captions, [3, 1, 2])
    assert result["net_input"]["tokens"].tolist() == expected
    assert result["net_input"]["eos_positions"].tolist() == [len(expected[0]) - 1, 1, 0]
    assert result["net_input"]["lengths"].tolist() == [len(expected[0]), 2, 1]
    assert [captions.num_tokens(row) for row in (3, 1, 2)] == [min(7, max_length), 2, 1]


def test_features_of_the_batch_s_rows():
    images, english = np.arange(8, dtype=np.float16).reshape(4, 2), np.arange(6, dtype=np.float32).reshape(2, 3)
    result = batch(dataset(images=images, english=english), [3, 0])
    assert result["image_features"].tolist() == [[4, 5], [6, 7]]
    assert result["text_features"].tolist() == [[3, 4, 5], [0, 1, 2]]
    assert result["image_features"].dtype == result["text_features"].dtype == torch.float32


def test_features_from_a_memory_map_are_copies(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((4, 2), np.float32))
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    features = batch(dataset(images=images), [0, 1])["image_features"]
    features += 1
    assert not images.any()


class Pictures:
    def __getitem__(self, row):
        return torch.full((3, 2, 2), float(row))


def test_pictures_are_read_per_caption():
    result = batch(dataset(images=Pictures()), [1, 3])
    assert result["image_features"].shape == (2, 3, 2, 2)
    assert result["image_features"][:, 0, 0, 0].tolist() == [3, 2]


def test_an_empty_batch_is_empty():
    assert dataset().collater([]) == {}


def test_stored_order_without_shuffling():
    captions = dataset()
    captions.keep_multiple_of = 2
    assert captions.ordered_indices().tolist() == [0, 1, 2, 3, 4]


def orders(captions, seeds):
    found = []
    for seed in seeds:
        with data_utils.numpy_seed(seed):  # what fairseq does before it asks
            found.append(captions.ordered_indices().tolist())
    return found


def test_order_follows_the_seed_only():
    first, again, other = orders(dataset(shuffle=True), [1, 1, 2])
    assert first == again != other and sorted(first) == sorted(other) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("multiple, kept", [(1, 5), (2, 4), (3, 3), (5, 5), (6, 5)])
def test_shuffled_epochs_are_made_of_full_batches(multiple, kept):
    captions = dataset(shuffle=True)
    captions.keep_multiple_of = multiple
    (order,) = orders(captions, [3])
    assert len(order) == len(set(order)) == kept


def test_other_captions_are_left_out_in_other_epochs():
    captions = dataset(shuffle=True)
    captions.keep_multiple_of = 4
    left_out = {*range(5)}.difference
    assert len({tuple(left_out(order)) for order in orders(captions, range(20))}) > 2


def joined(first_rows, second_rows, **options):
    images, english = np.arange(8, dtype=np.float32).reshape(4, 2), np.arange(6, dtype=np.float32).reshape(2, 3)
    captions = dataset(images=images, english=english, **options)
    first, second = batch(captions, first_rows), batch(captions, second_rows)
    return first, second, join_batches(first, second)


@pytest.mark.parametrize("first_rows, second_rows", [([1, 4], [3, 0]), ([3, 0], [1, 4]), ([0], [0, 1])])
def test_joined_batches_are_the_batch_of_all_rows(first_rows, second_rows):
    """Whichever of the two is longer."""
    first, second, both = joined(first_rows, second_rows)
    expected = batch(dataset(images=np.arange(8, dtype=np.float32).reshape(4, 2)), first_rows + second_rows)
    assert both["ntokens"] == expected["ntokens"] == first["ntokens"] + second["ntokens"]
    for name in ("tokens", "eos_positions"):
        assert torch.equal(both["net_input"][name], expected["net_input"][name]), name
    assert both["net_input"]["lengths"].tolist() == expected["net_input"]["lengths"].tolist()
    for name in ("image_ids", "image_features"):
        assert torch.equal(both[name], expected[name]), name


def test_what_belongs_to_the_first_batch_s_rows_stays_and_nothing_is_changed_in_place():
    first, second, both = joined([1, 4], [3])
    for name in ("id", "nsentences", "text_features"):
        assert both[name] is first[name]
    assert (first["net_input"]["tokens"].shape, second["net_input"]["tokens"].shape) == ((2, 4), (1, 8))
    assert len(first["image_ids"]) == 2 and both["nsentences"] == 2 and len(both["net_input"]["tokens"]) == 3


def test_what_else_the_model_is_given_stays():
    captions = dataset(images=np.zeros((4, 2), np.float32))
    first = batch(captions, [0])
    first["net_input"]["lang"] = "de"
    assert join_batches(first, batch(captions, [1]))["net_input"]["lang"] == "de"


def test_joined_features_take_the_first_batch_s_precision():
    captions = dataset(images=np.ones((4, 2), np.float32))
    first = batch(captions, [0])
    first["image_features"] = first["image_features"].half()
    assert join_batches(first, batch(captions, [1]))["image_features"].dtype == torch.float16


def mapped(prefix, texts, vocabulary):
    """fairseq's memory-mapped file of some texts; its numbers have two or four bytes."""
    builder = indexed_dataset.make_builder(f"{prefix}.bin", impl="mmap", vocab_size=vocabulary)
    for text in texts:
        builder.add_item(torch.tensor(text))
    builder.finalize(f"{prefix}.idx")
    return indexed_dataset.MMapIndexedDataset(str(prefix))


@pytest.mark.parametrize("max_length", [4, 77])
def test_memory_mapped_files_and_parts_of_them_are_read_as_lists_are(tmp_path, max_length):
    rng = np.random.default_rng(1)
    texts = [[*rng.integers(3, 90, length), EOS] for length in rng.integers(0, 9, 30)]
    first, second = mapped(tmp_path / "a", texts[:18], 100), mapped(tmp_path / "b", texts[18:], 70_000)
    kept = np.array([1, 2, 5, 11, 17])
    files = ConcatDataset([Subset(first, kept), second, Subset(first, kept[::2])])
    lists = [*(texts[row] for row in kept), *texts[18:], *(texts[row] for row in kept[::2])]
    sizes, rows = np.array([len(text) for text in lists]), np.stack([np.arange(20)] * 2, axis=1).astype(np.int32)
    read, expected = (CaptionDataset(t, sizes, rows, BOS, EOS, max_length=max_length) for t in (files, lists))
    for size in (1, 3, 20):
        order = rng.permutation(20)[:size]
        one, other = read.collater(read.__getitems__(order)), batch(expected, order)
        assert torch.equal(one["net_input"]["tokens"], other["net_input"]["tokens"])
        wanted = [[BOS, *lists[row][:-1]][: max_length - 1] + [EOS] for row in order]
        tokens = [row[: len(text)] for row, text in zip(one["net_input"]["tokens"].tolist(), wanted)]
        assert tokens == wanted and one["id"].tolist() == order.tolist()


def test_a_data_loader_asks_for_all_captions_of_a_batch_at_once(monkeypatch):
    captions = dataset(images=np.arange(8.0).reshape(4, 2))
    monkeypatch.setattr(CaptionDataset, "__getitem__", None)
    (result,) = DataLoader(captions, batch_sampler=[[4, 1]], collate_fn=captions.collater)
    assert result["id"].tolist() == [4, 1] and result["image_features"].tolist() == [[2, 3], [6, 7]]


def test_captions_of_several_items_are_joined_with_their_pictures():
    pictures = {row: torch.full((3, 1, 1), float(row)) for row in range(4)}
    captions = dataset(images=pictures)
    items = [captions[row] for row in (3, 0, 1)]
    assert all(isinstance(item, Captions) for item in items)
    assert captions.collater(items)["image_features"][:, 0, 0, 0].tolist() == [2, 3, 3]
