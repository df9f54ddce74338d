"""Ranks against a direct count, for every block size, kind of input and degree of degeneracy."""

import importlib.util
import tracemalloc

import numpy as np
import pytest
import torch

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.metrics import ranking
from mlvl_fairseq.evaluation.metrics.ranking import NO_RANK, retrieval_ranks

CHUNK_SIZES = (1, 7, 64, 1000, 4096)


def counted_ranks(scores, text_to_image):
    """The definition: strictly better candidates, and equal ones with a smaller index. ``scores`` [images, texts]."""
    text_ranks = [rank_of(scores[:, text], image) for text, image in enumerate(text_to_image)]
    own = [np.flatnonzero(text_to_image == image) for image in range(len(scores))]
    image_ranks = [min((rank_of(row, text) for text in texts), default=NO_RANK) for row, texts in zip(scores, own)]
    return np.array(image_ranks), np.array(text_ranks)


def rank_of(scores, target):
    return np.sum(scores > scores[target]) + np.sum(scores[:target] == scores[target])


def assert_ranks(actual, expected):
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def random_pairs(n_images, n_texts, dim, noise, seed=0):
    rng = np.random.default_rng(seed)
    text_to_image = rng.integers(0, n_images, n_texts)
    images = rng.standard_normal((n_images, dim)).astype(np.float32)
    texts = (images[text_to_image] + noise * rng.standard_normal((n_texts, dim))).astype(np.float32)
    return images, texts, text_to_image


@pytest.mark.parametrize("chunk_size", CHUNK_SIZES)
def test_many_ties(chunk_size):
    rng = np.random.default_rng(1)
    images, texts = rng.integers(-2, 3, (41, 5)), rng.integers(-2, 3, (93, 5))
    text_to_image = rng.integers(0, 40, 93)  # image 40 has no text, and probably others
    scores = images @ texts.T
    expected = counted_ranks(scores, text_to_image)
    assert expected[0][40] == NO_RANK and len(np.unique(scores)) < scores.size / 50
    assert_ranks(retrieval_ranks(images, texts, text_to_image, chunk_size), expected)


def test_continuous_features():
    images, texts, text_to_image = random_pairs(300, 700, 64, noise=4.0)
    expected = counted_ranks(images.astype(float) @ texts.astype(float).T, text_to_image)
    assert 0.05 < np.mean(expected[1] == 0) < 0.95
    for chunk_size in CHUNK_SIZES[1:]:
        assert_ranks(retrieval_ranks(images, texts, text_to_image, chunk_size), expected)


def test_normalised_features():
    images, texts, text_to_image = random_pairs(200, 300, 33, 2.0)
    images *= np.linspace(0.01, 100, len(images), dtype=np.float32)[:, None]
    images[17], images[18] = 0, 1e-40  # no direction: every text scores 0
    x, y = images.astype(float), texts.astype(float)
    x = np.round(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12), 15)
    expected = counted_ranks(x @ (y / np.linalg.norm(y, axis=1, keepdims=True)).T, text_to_image)
    assert_ranks(retrieval_ranks(images, texts, text_to_image, normalise=True), expected)


def test_scores_closer_than_float32_resolves():
    """Near copies of one vector: only exact scores, here by integers of any size, can tell them apart."""
    rng = np.random.default_rng(2)
    base = rng.standard_normal(32)
    base /= np.linalg.norm(base)
    images, texts = ((base + 1e-7 * rng.standard_normal((n, 32))).astype(np.float32) for n in (60, 130))
    text_to_image = rng.integers(0, 60, 130)
    x, y = (np.array([[round(float(v) * 2**25) for v in row] for row in m], dtype=object) for m in (images, texts))
    exact = np.array([[int(score) for score in row] for row in x @ y.T])
    expected = counted_ranks(exact, text_to_image)
    in_float32 = counted_ranks(images @ texts.T, text_to_image)
    assert np.any(in_float32[1] != expected[1])
    for chunk_size in CHUNK_SIZES:
        assert_ranks(retrieval_ranks(images, texts, text_to_image, chunk_size), expected)


def test_collapsed_model_scores_chance():
    images, texts = np.full((50, 19), 0.3, dtype=np.float32), np.full((100, 19), 0.7, dtype=np.float32)
    text_to_image = np.arange(100) // 2
    image_ranks, text_ranks = retrieval_ranks(images, texts, text_to_image, chunk_size=16, normalise=True)
    np.testing.assert_array_equal(text_ranks, text_to_image)
    np.testing.assert_array_equal(image_ranks, 2 * np.arange(50))


def test_copies_tie_exactly_wherever_they_lie():
    images, _, _ = random_pairs(400, 1, 31, 0)
    images[[3, 150, 399]] = images[7]
    texts = images[[3, 7, 150, 399]]
    _, text_ranks = retrieval_ranks(images, texts, np.array([3, 7, 150, 399]), chunk_size=64, normalise=True)
    np.testing.assert_array_equal(text_ranks, [0, 1, 2, 3])


def test_counters_do_not_overflow():
    """Every target is among the last: counts of thousands in both directions, in one block."""
    images, texts, text_to_image = random_pairs(700, 3000, 8, 0.1)
    expected = counted_ranks(-images.astype(float) @ texts.astype(float).T, text_to_image)
    assert np.median(expected[1]) > 500 and np.median(expected[0]) > 2000
    assert_ranks(retrieval_ranks(-images, texts, text_to_image, chunk_size=4096), expected)


def test_single_doubtful_scores_and_whole_tiles_agree(monkeypatch):
    images, texts, text_to_image = random_pairs(150, 260, 24, 3.0)
    images[40:80] = images[40]
    expected = retrieval_ranks(images, texts, text_to_image)
    for fraction in (0.0, 1.0):
        monkeypatch.setattr(ranking, "_EXACT_TILE_FRACTION", fraction)
        assert_ranks(retrieval_ranks(images, texts, text_to_image), expected)


def test_kinds_of_input(tmp_path):
    images, texts, text_to_image = random_pairs(60, 110, 12, 1.0)
    images, texts = images.astype(np.float16).astype(np.float32), texts.astype(np.float16).astype(np.float32)
    expected = retrieval_ranks(images, texts, text_to_image)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    kinds = {
        "float64, strided": (np.repeat(images.astype(float), 2, axis=1)[:, ::2], texts),
        "float16": (images.astype(np.float16), texts.astype(np.float16)),
        "read-only memory map": (mapped, texts),
        "Fortran order": (np.asfortranarray(images), texts),
        "tensor with gradient": (torch.from_numpy(images).requires_grad_(), torch.from_numpy(texts).double()),
    }
    for x, y in kinds.values():
        assert_ranks(retrieval_ranks(x, y, torch.from_numpy(text_to_image), chunk_size=32), expected)
    rounded = torch.from_numpy(images).bfloat16()
    expected = retrieval_ranks(rounded.float(), texts, text_to_image)
    assert_ranks(retrieval_ranks(rounded, texts, text_to_image), expected)


def test_memory_does_not_grow_with_the_product():
    images, texts, text_to_image = random_pairs(2000, 4000, 8, 1.0)
    retrieval_ranks(images[:9], texts[:9], np.arange(9))
    tracemalloc.start()
    retrieval_ranks(images, texts, text_to_image, chunk_size=256)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2000 * 4000 * 4 / 10


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda x, y, t: (x, np.where(np.arange(6)[:, None] == 4, np.nan, y), t), "text .* 1 of 6 rows .* row 4"),
        (lambda x, y, t: (np.where(x > 0, np.inf, x), y, t), "image features: .* NaN or infinity"),
        (lambda x, y, t: (x[:, 1:], y, t), "image features have 3 columns, text features 4"),
        (lambda x, y, t: (x[0], y, t), "image features: expected a non-empty matrix"),
        (lambda x, y, t: (x, y[:0], t), "text features: expected a non-empty matrix"),
        (lambda x, y, t: (x, y, t[1:]), "expected 6 integers"),
        (lambda x, y, t: (x, y, t * 1.0), "expected 6 integers"),
        (lambda x, y, t: (x, y, t + 1), "text 4 belongs to image row 3, but there are 3"),
        (lambda x, y, t: (x, y, t - 1), "text 0 belongs to image row -1"),
        (lambda x, y, t: (x * 1e30, y * 1e30, t), "too large"),
        (lambda x, y, t: (x, y, t, 0), "chunk size"),
    ],
)
def test_bad_input(change, message):
    images, texts, _ = random_pairs(3, 6, 4, 1.0)
    with pytest.raises(UserError, match=message):
        retrieval_ranks(*change(images, texts, np.arange(6) // 2))


def test_products_below_float32_are_refused(monkeypatch):
    images, texts, text_to_image = random_pairs(50, 80, 16, 1.0)
    exact = torch.mm
    in_bfloat16 = lambda a, b, out: out.copy_(exact(a.bfloat16(), b.bfloat16()))  # noqa: E731
    monkeypatch.setattr(torch, "mm", in_bfloat16)
    with pytest.raises(UserError, match="set_float32_matmul_precision"):
        retrieval_ranks(images, texts, text_to_image)


def test_benchmarked_methods_agree(root, tmp_path):
    spec = importlib.util.spec_from_file_location("ranking_benchmark", root / "benchmarks" / "ranking.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    benchmark.write_features(tmp_path, 60, 150, 16, 2.0, seed=3)
    data = [np.load(tmp_path / f"{name}.npy") for name in ("images", "texts", "text_to_image")]
    recalls, digest = benchmark.run_ours(*data)
    stable = benchmark.run_argsort(*data, kind="stable")
    assert digest == benchmark.ranks_digest(*stable)
    assert recalls == benchmark.run_one_hot(*data, batch_size=7) == benchmark.recalls(*stable)
    assert 0 < recalls[0] < recalls[2] <= 1
