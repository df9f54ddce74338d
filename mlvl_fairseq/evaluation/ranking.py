"""Exact retrieval ranks in both directions, from one float32 matrix product that is never held whole.

A rank compares every score with one target score, so a score that differs in its last bit from the target it
should equal changes ranks, and the last bits of a float32 matrix product depend on the block shape, the BLAS and
the machine. Ranks here depend on none of these:

1. Features are rounded to integers, 2^-25 of the largest norm apart (finer than the rounding of a float32 product).
   A dot product of two such rows stays below 2^53 in every order of summation, so float64 computes it *exactly*.
2. The bulk is counted on the fast float32 product: a score further from its target than the rounding bound
   gamma_d |x||y| (Higham 2002, section 3.1) is certainly better or certainly worse.
3. The few in between are decided by their exact scores.

Ties are resolved by index (rank = number strictly better + number equal with a smaller index), so a model that
gives all items the same feature scores chance, not 100 %.
"""

from dataclasses import dataclass
from typing import Iterator, Tuple

import numpy as np

from mlvl_fairseq.errors import UserError

DEFAULT_CHUNK_SIZE = 2048
NO_RANK = -1

_GRID_BITS = 25  # largest norm after scaling: 2^25.5; products of two rows then stay below 2^51
_FLOAT32_UNIT = 2.0**-24
_TILE_ROWS, _TILE_COLUMNS = 64, 1024  # fits the L2 cache; at most 255 rows and 8 * 255 columns (byte-wide counters)
_PASS_ROWS = 512  # rows a step while reading norms and targets; ranks do not depend on it
_EXACT_TILE_FRACTION = 1 / 32  # above this, one float64 product of the tile is cheaper than single dot products


def retrieval_ranks(
    image_features,
    text_features,
    text_to_image,
    chunk_size: int = DEFAULT_CHUNK_SIZE,
    normalise: bool = False,
) -> Tuple[np.ndarray, np.ndarray]:
    """Rank texts for every image and images for every text.

    Args:
        image_features: [n, d] array, memory map or tensor of finite numbers (used as float32).
        text_features: [m, d], the same kinds.
        text_to_image: [m] integers, the row of each text's image. An image may have any number of texts, in any order.
        chunk_size: texts per block, with a quarter as many images. It bounds memory and does not change the result.
        normalise: divide every row by its Euclidean norm first (cosine scores); rows of zeros stay zero.

    Returns:
        (image_to_text_ranks [n], text_to_image_ranks [m]), int64, 0 = best. An image's rank is that of its best
        ranked text; images without texts get :data:`NO_RANK`.

    Raises:
        UserError: shapes that do not fit, image rows out of range, NaN or infinite features.
    """
    images = _GridFeatures(image_features, "image features", normalise)
    texts = _GridFeatures(text_features, "text features", normalise)
    text_to_image = _check_pairs(images, texts, text_to_image, chunk_size)

    scores = _target_scores(images, texts, text_to_image)
    best_score, best_text = _best_texts(scores, text_to_image, len(images))
    error = _rounding_bound(images.dim)
    text_targets = _Targets.with_margin(scores, text_to_image, error * texts.norms * images.norms.max())
    image_targets = _Targets.with_margin(best_score, best_text, error * images.norms * texts.norms.max())

    image_ranks = np.zeros(len(images), dtype=np.int64)
    text_ranks = np.zeros(len(texts), dtype=np.int64)
    for tile in _tiles(images, texts, text_to_image, chunk_size):
        image_ranks[tile.rows] += _count_better(tile, 0, image_targets[tile.rows])
        text_ranks[tile.columns] += _count_better(tile, 1, text_targets[tile.columns])
    image_ranks[best_text < 0] = NO_RANK
    return image_ranks, text_ranks


class _GridFeatures:
    """Rows of a feature matrix as integers in float32; converted when asked for, never held whole."""

    def __init__(self, features, name: str, normalise: bool):
        if hasattr(features, "detach"):  # a torch tensor, without importing torch
            features = features.detach().float().cpu().numpy()
        self._features = np.asanyarray(features)
        if self._features.ndim != 2 or 0 in self._features.shape:
            raise UserError(f"{name}: expected a non-empty matrix, one row an item, not shape {self._features.shape}")
        self.dim = self._features.shape[1]
        norms = self._read_norms(name)
        if normalise:
            scale = 2.0**_GRID_BITS / np.where(norms > 0, norms, np.inf)
        else:
            largest = norms.max()
            exponent = _GRID_BITS - np.round(np.log2(largest)) if largest > 0 else 0.0
            scale = np.full(len(norms), 2.0**exponent)
        self._scale = scale.astype(np.float32)[:, None]
        # upper bounds of the rounded rows' norms: rounding moves a row by at most sqrt(d)/2, scaling by less than 3
        self.norms = norms * scale + np.sqrt(self.dim) + 3

    def _read_norms(self, name: str) -> np.ndarray:
        norms = np.empty(len(self._features))
        for start in range(0, len(norms), _PASS_ROWS):
            rows = self._features[start : start + _PASS_ROWS].astype(np.float64)
            norms[start : start + _PASS_ROWS] = np.sqrt(np.square(rows, out=rows).sum(axis=1))
        bad = np.flatnonzero(~np.isfinite(norms))
        if len(bad):
            raise UserError(
                f"{name}: {len(bad)} of {len(norms)} rows hold NaN or infinity, first row {bad[0]}; "
                "check the model (did training diverge?) or extract the features again"
            )
        return norms

    def __len__(self) -> int:
        return len(self._features)

    def __getitem__(self, rows) -> np.ndarray:
        """Integer-valued float32 rows; ``rows`` is a slice or an array of row numbers."""
        grid = np.multiply(self._features[rows], self._scale[rows], dtype=np.float32, casting="same_kind")
        return np.rint(grid, out=grid)


@dataclass
class _Targets:
    """What beats a query: more than ``scores``, or as much at an index below ``indices``.

    Of float32 scores, those above ``upper`` certainly beat it and those below ``lower`` certainly do not.
    """

    scores: np.ndarray
    indices: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    @classmethod
    def with_margin(cls, scores: np.ndarray, indices: np.ndarray, margins: np.ndarray) -> "_Targets":
        lower = np.nextafter((scores - margins).astype(np.float32), np.float32(-np.inf))
        upper = np.nextafter((scores + margins).astype(np.float32), np.float32(np.inf))
        return cls(scores, indices, lower, upper)

    def __getitem__(self, queries: slice) -> "_Targets":
        return _Targets(self.scores[queries], self.indices[queries], self.lower[queries], self.upper[queries])


@dataclass
class _Tile:
    """A piece of the score matrix: ``scores`` [rows, columns padded to 8] and the features it was made of."""

    scores: np.ndarray
    rows: slice
    columns: slice
    image_rows: np.ndarray
    text_rows: np.ndarray

    def exact_scores(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Exact float64 scores of the given pairs (numbers inside the tile)."""
        if len(rows) > _EXACT_TILE_FRACTION * self.scores.size:
            exact = self.image_rows.astype(np.float64) @ self.text_rows.astype(np.float64).T
            return exact[rows, columns]
        return _exact_dot(self.image_rows, rows, self.text_rows, columns)


def _check_pairs(images: _GridFeatures, texts: _GridFeatures, text_to_image, chunk_size: int) -> np.ndarray:
    if images.dim != texts.dim:
        raise UserError(f"image features have {images.dim} columns, text features {texts.dim}; use one model for both")
    text_to_image = np.asarray(text_to_image)
    if text_to_image.shape != (len(texts),) or text_to_image.dtype.kind not in "iu":
        raise UserError(f"text_to_image: expected {len(texts)} integers, one a text, not shape {text_to_image.shape}")
    outside = np.flatnonzero((text_to_image < 0) | (text_to_image >= len(images)))
    if len(outside):
        row = text_to_image[outside[0]]
        raise UserError(f"text {outside[0]} belongs to image row {row}, but there are {len(images)} image rows")
    if chunk_size < 1:
        raise UserError(f"chunk size must be at least 1, not {chunk_size}")
    return text_to_image.astype(np.int64)


def _rounding_bound(dim: int) -> float:
    """gamma_d: |float32 dot product - exact| <= gamma_d |x||y| in every order of summation, fused or not."""
    return dim * _FLOAT32_UNIT / (1 - dim * _FLOAT32_UNIT)


def _exact_dot(left, left_rows: np.ndarray, right, right_rows: np.ndarray) -> np.ndarray:
    """float64 dot products of pairs of rows of two integer-valued matrices; exact, therefore in any order."""
    scores = np.empty(len(left_rows))
    for start in range(0, len(scores), _PASS_ROWS):
        step = slice(start, start + _PASS_ROWS)
        products = left[left_rows[step]].astype(np.float64) * right[right_rows[step]]
        scores[step] = products.sum(axis=1)
    return scores


def _target_scores(images: _GridFeatures, texts: _GridFeatures, text_to_image: np.ndarray) -> np.ndarray:
    return _exact_dot(images, text_to_image, texts, np.arange(len(texts)))


def _best_texts(scores: np.ndarray, text_to_image: np.ndarray, n_images: int) -> Tuple[np.ndarray, np.ndarray]:
    """Each image's best own text: (score [n], index [n]); of equal ones the first; (inf, -1) where there is none."""
    order = np.lexsort((-scores, text_to_image))  # stable: texts of one image, best first, then by index
    images, first = np.unique(text_to_image[order], return_index=True)
    best_score, best_text = np.full(n_images, np.inf), np.full(n_images, -1, dtype=np.int64)
    best_text[images] = order[first]
    best_score[images] = scores[order[first]]
    return best_score, best_text


def _tiles(images: _GridFeatures, texts: _GridFeatures, text_to_image: np.ndarray, chunk_size: int) -> Iterator[_Tile]:
    """All of the score matrix, each block multiplied once, cut into pieces that stay in the cache while counted."""
    image_chunk = max(1, chunk_size // 4)
    buffer = np.empty(min(image_chunk, len(images)) * (min(chunk_size, len(texts)) + 7), dtype=np.float32)
    for text_start in range(0, len(texts), chunk_size):
        text_block = texts[text_start : text_start + chunk_size]
        owners = text_to_image[text_start : text_start + chunk_size]
        for image_start in range(0, len(images), image_chunk):
            image_block = images[image_start : image_start + image_chunk]
            scores = _score_block(image_block, text_block, owners - image_start, buffer)
            for row in range(0, len(image_block), _TILE_ROWS):
                for column in range(0, len(text_block), _TILE_COLUMNS):
                    image_rows = image_block[row : row + _TILE_ROWS]
                    text_rows = text_block[column : column + _TILE_COLUMNS]
                    first_row, first_column = image_start + row, text_start + column
                    yield _Tile(
                        scores[row : row + _TILE_ROWS, column : column + _TILE_COLUMNS],
                        slice(first_row, first_row + len(image_rows)),
                        slice(first_column, first_column + len(text_rows)),
                        image_rows,
                        text_rows,
                    )


def _score_block(image_block: np.ndarray, text_block: np.ndarray, owners: np.ndarray, buffer: np.ndarray) -> np.ndarray:
    """float32 scores [images, texts padded to 8 columns]; padding and an item's own pairs are -inf: never counted.

    Own pairs need no counting: a target does not beat itself, and an image's other texts do not beat its best one.
    """
    n_images, n_texts = len(image_block), len(text_block)
    width = -(-n_texts // 8) * 8
    scores = buffer[: n_images * width].reshape(n_images, width)
    np.matmul(image_block, text_block.T, out=scores[:, :n_texts])
    scores[:, n_texts:] = -np.inf
    own = np.flatnonzero((owners >= 0) & (owners < n_images))
    scores[owners[own], own] = -np.inf
    return scores


def _count_better(tile: _Tile, query_axis: int, targets: _Targets) -> np.ndarray:
    """How many candidates of the tile beat each query's target; queries are the tile's rows (0) or columns (1)."""
    candidates = (tile.columns, tile.rows)[query_axis]
    lower, upper = targets.lower, targets.upper
    if query_axis == 0:
        lower, upper = lower[:, None], upper[:, None]
    elif len(upper) < tile.scores.shape[1]:
        padding = (0, tile.scores.shape[1] - len(upper))
        lower, upper = np.pad(lower, padding), np.pad(upper, padding)
    certain = tile.scores > upper
    doubtful = np.flatnonzero(certain ^ (tile.scores >= lower))
    counts = (_count_rows, _count_columns)[query_axis](certain)[: len(targets.scores)]
    if len(doubtful):
        pairs = np.divmod(doubtful, tile.scores.shape[1])
        scores = tile.exact_scores(*pairs)
        query, candidate = pairs[query_axis], pairs[1 - query_axis] + candidates.start
        target = targets.scores[query]
        better = (scores > target) | ((scores == target) & (candidate < targets.indices[query]))
        counts += np.bincount(query[better], minlength=len(counts))
    return counts


def _count_rows(flags: np.ndarray) -> np.ndarray:
    """True values per row; eight byte-wide counters are summed at once in each 64-bit word."""
    return np.add.reduce(flags.view(np.uint64), axis=1).view(np.uint8).reshape(len(flags), 8).sum(axis=1, dtype=np.int64)


def _count_columns(flags: np.ndarray) -> np.ndarray:
    """True values per column, summed in bytes (a tile has less than 256 rows)."""
    return np.add.reduce(flags.view(np.uint8), axis=0, dtype=np.uint8).astype(np.int64)
