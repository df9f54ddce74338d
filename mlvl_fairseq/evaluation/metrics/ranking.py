"""Exact retrieval ranks in both directions, from one float32 matrix product that is never held whole.

A rank compares every score with one target score. The last bits of a float32 matrix product depend on the block's
shape, the BLAS and the machine, so a target compared with its own twin may win or lose by chance. Ranks here depend
on none of these:

1. The score that counts is that of the features rounded to a grid, 2^-25 of the largest norm (a float32 product
   rounds more coarsely than that). A dot product of two such rows needs at most 53 bits in every order of summation:
   float64 computes it *exactly*, and equal rows tie exactly.
2. The bulk is decided by the fast float32 product: a score further from its target than the bound on its rounding
   error, gamma_d |x||y| (Higham 2002, section 3.1), is certainly better or certainly worse.
3. The few in between are decided by their exact scores.

Ties are resolved by index (rank = number strictly better + number equal with a smaller index), so a model that
gives all items the same feature scores chance, not 100 %.
"""

from dataclasses import dataclass
from typing import Iterator, Tuple

import numpy as np

from mlvl_fairseq.errors import UserError

DEFAULT_CHUNK_SIZE = 1024
NO_RANK = -1

_GRID_BITS = 25  # rows on the grid are integers of norm <= 2^25.5 times a power of two: dot products stay below 2^52
_FLOAT32_UNIT = 2.0**-24
_FLOAT32_TINY = 2.0**-149
_SMALLEST_NORM = 1e-12  # that of torch.nn.functional.normalize
_TILE_ROWS, _TILE_COLUMNS = 128, 1024  # stays in the L2 cache; at most 255 rows and 8 * 255 columns (byte counters)
_STEP_ROWS = 64  # rows read at once for norms and exact scores: stay in the L1/L2 cache
_EXACT_TILE_FRACTION = 1 / 32  # with more doubtful scores, one float64 product of the tile is cheaper


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
        chunk_size: texts per block, with half as many images. It bounds memory and does not change the result.
        normalise: divide every row by its Euclidean norm first (cosine scores); rows of zeros stay zero.

    Returns:
        (image_to_text_ranks [n], text_to_image_ranks [m]), int64, 0 = best. An image's rank is that of its best
        ranked text; images without texts get :data:`NO_RANK`.

    Raises:
        UserError: shapes that do not fit, image rows out of range, NaN or infinite features; torch set to compute
            float32 products less precisely than float32.
    """
    images = ScaledFeatures(image_features, "image features", normalise)
    texts = ScaledFeatures(text_features, "text features", normalise)
    text_to_image = check_pairs(images, texts, text_to_image, chunk_size)

    scores = _exact_dot(images.on_grid, text_to_image, texts.on_grid, np.arange(len(texts)))
    best_score, best_text = _best_texts(scores, text_to_image, len(images))
    text_targets = _Targets.with_margin(scores, text_to_image, _margins(texts, images))
    image_targets = _Targets.with_margin(best_score, best_text, _margins(images, texts))

    image_ranks = np.zeros(len(images), dtype=np.int64)
    text_ranks = np.zeros(len(texts), dtype=np.int64)
    for tile in _tiles(images, texts, text_targets, chunk_size):
        image_ranks[tile.rows] += _count_better(tile, 0, image_targets)
        text_ranks[tile.columns] += _count_better(tile, 1, text_targets)
    image_ranks[best_text < 0] = NO_RANK
    return image_ranks, text_ranks


class ScaledFeatures:
    """A feature matrix, read in pieces: as it is (float32) or on the grid; ``norms`` are upper bounds."""

    def __init__(self, features, name: str, normalise: bool):
        if hasattr(features, "detach"):  # a torch tensor, without importing torch
            features = features.detach().float().cpu().numpy()
        self._features = np.asarray(features)
        if self._features.ndim != 2 or 0 in self._features.shape:
            raise UserError(f"{name}: expected a non-empty matrix, one row an item, not shape {self._features.shape}")
        self.dim = self._features.shape[1]
        self._factor = None
        self.norms = self._read_norms(name)
        if normalise:
            factor = 1 / np.maximum(self.norms, _SMALLEST_NORM)
            self._factor = factor.astype(np.float32)[:, None]
            self.norms = self.norms * factor * (1 + 4 * _FLOAT32_UNIT)  # factor and products are rounded
        largest = max(self.norms.max(), 2.0**-64)
        self._grid = np.float32(2.0 ** (_GRID_BITS - np.round(np.log2(largest))))
        self.grid_error = np.sqrt(self.dim) / 2 / self._grid  # how far a row moves at most

    def _read_norms(self, name: str) -> np.ndarray:
        norms = np.empty(len(self))
        for start in range(0, len(self), _STEP_ROWS):
            rows = self[start : start + _STEP_ROWS].astype(np.float64)
            norms[start : start + _STEP_ROWS] = np.sqrt(np.square(rows, out=rows).sum(axis=1))
        bad = np.flatnonzero(~np.isfinite(norms))
        if len(bad):
            raise UserError(
                f"{name}: {len(bad)} of {len(self)} rows hold NaN or infinity, first row {bad[0]}; "
                "check the model (did training diverge?) or extract the features again"
            )
        return norms

    def __len__(self) -> int:
        return len(self._features)

    def __getitem__(self, rows) -> np.ndarray:
        """float32 rows; a view where nothing has to be converted. ``rows`` is a slice or an array of row numbers."""
        features = np.require(self._features[rows], np.float32, ["C", "W"])  # what torch can share
        return features if self._factor is None else features * self._factor[rows]

    def on_grid(self, rows) -> np.ndarray:
        """float32 rows, rounded to the grid."""
        grid = self[rows] * self._grid
        np.rint(grid, out=grid)
        return np.divide(grid, self._grid, out=grid)


@dataclass
class _Targets:
    """What beats a query: more than ``scores``, or as much at an index below ``indices``.

    Of float32 scores, those above ``upper`` certainly beat it and those below ``lower`` certainly do not. These two
    are 7 entries longer, to be sliced up to a tile's padding.
    """

    scores: np.ndarray
    indices: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    @classmethod
    def with_margin(cls, scores: np.ndarray, indices: np.ndarray, margins: np.ndarray) -> "_Targets":
        lower = np.nextafter((scores - margins).astype(np.float32), np.float32(-np.inf))
        upper = np.nextafter((scores + margins).astype(np.float32), np.float32(np.inf))
        return cls(scores, indices, np.pad(lower, (0, 7)), np.pad(upper, (0, 7)))


@dataclass
class _Tile:
    """A piece of the float32 score matrix, its columns padded to a multiple of 8, and where it lies."""

    scores: np.ndarray
    rows: slice
    columns: slice
    images: ScaledFeatures
    texts: ScaledFeatures

    def exact_scores(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Exact float64 scores of pairs, given as row and column numbers inside the tile."""
        if len(rows) > _EXACT_TILE_FRACTION * self.scores.size:
            images, texts = self.images.on_grid(self.rows), self.texts.on_grid(self.columns)
            return (images.astype(np.float64) @ texts.astype(np.float64).T)[rows, columns]
        return _exact_dot(self.images.on_grid, rows + self.rows.start, self.texts.on_grid, columns + self.columns.start)


def check_pairs(images: ScaledFeatures, texts: ScaledFeatures, text_to_image, chunk_size: int) -> np.ndarray:
    if images.dim != texts.dim:
        raise UserError(f"image features have {images.dim} columns, text features {texts.dim}; use one model for both")
    if images.norms.max() * texts.norms.max() > np.finfo(np.float32).max / 2:
        raise UserError("features are too large for float32 scores; normalise them")
    text_to_image = np.asarray(text_to_image)
    if text_to_image.shape != (len(texts),) or text_to_image.dtype.kind not in "iu":
        raise UserError(
            f"text_to_image: expected {len(texts)} integers, one a text, "
            f"not {text_to_image.dtype} of shape {text_to_image.shape}"
        )
    outside = np.flatnonzero((text_to_image < 0) | (text_to_image >= len(images)))
    if len(outside):
        row = text_to_image[outside[0]]
        raise UserError(f"text {outside[0]} belongs to image row {row}, but there are {len(images)} image rows")
    if chunk_size < 1:
        raise UserError(f"chunk size must be at least 1, not {chunk_size}")
    return text_to_image.astype(np.int64)


def _margins(queries: ScaledFeatures, candidates: ScaledFeatures) -> np.ndarray:
    """[queries] bounds on |float32 score - exact score on the grid|, for any order of summation, fused or not."""
    dim, norms, largest = queries.dim, queries.norms, candidates.norms.max()
    gamma = dim * _FLOAT32_UNIT / (1 - dim * _FLOAT32_UNIT)
    rounding = (norms + queries.grid_error) * (largest + candidates.grid_error) - norms * largest
    return gamma * norms * largest + rounding + dim * _FLOAT32_TINY


def _exact_dot(left_rows, left: np.ndarray, right_rows, right: np.ndarray) -> np.ndarray:
    """float64 dot products of rows ``left[i]`` and ``right[i]``; on the grid they are exact."""
    scores = np.empty(len(left))
    for start in range(0, len(scores), _STEP_ROWS):
        step = slice(start, start + _STEP_ROWS)
        products = left_rows(left[step]).astype(np.float64)
        products *= right_rows(right[step])
        scores[step] = products.sum(axis=1)
    return scores


def _best_texts(scores: np.ndarray, text_to_image: np.ndarray, n_images: int) -> Tuple[np.ndarray, np.ndarray]:
    """Each image's best own text: (score [n], index [n]); of equal ones the first; (inf, -1) where there is none."""
    order = np.lexsort((-scores, text_to_image))  # stable: by image, best first, then by index
    images, first = np.unique(text_to_image[order], return_index=True)
    best_score, best_text = np.full(n_images, np.inf), np.full(n_images, -1, dtype=np.int64)
    best_text[images] = order[first]
    best_score[images] = scores[order[first]]
    return best_score, best_text


def _tiles(images: ScaledFeatures, texts: ScaledFeatures, text_targets: _Targets, chunk_size: int) -> Iterator[_Tile]:
    """All of the score matrix, each block multiplied once, cut into pieces that stay in the cache while counted."""
    image_chunk = max(1, chunk_size // 2)
    buffer = np.empty(min(image_chunk, len(images)) * (min(chunk_size, len(texts)) + 7), dtype=np.float32)
    for block_texts in _pieces(slice(0, len(texts)), chunk_size):
        text_rows = texts[block_texts]
        for block_images in _pieces(slice(0, len(images)), image_chunk):
            scores = _multiply(images[block_images], text_rows, buffer)
            _leave_out_own_pairs(scores, block_images, block_texts, text_targets)
            for rows in _pieces(block_images, _TILE_ROWS):
                for columns in _pieces(block_texts, _TILE_COLUMNS):
                    row, column = rows.start - block_images.start, columns.start - block_texts.start
                    tile_scores = scores[row : row + _TILE_ROWS, column : column + _TILE_COLUMNS]
                    yield _Tile(tile_scores, rows, columns, images, texts)


def _pieces(whole: slice, size: int) -> Iterator[slice]:
    for start in range(whole.start, whole.stop, size):
        yield slice(start, min(start + size, whole.stop))


def _multiply(image_rows: np.ndarray, text_rows: np.ndarray, buffer: np.ndarray) -> np.ndarray:
    """float32 scores [images, texts padded to a multiple of 8]; the padding is -inf and thus never counted.

    By torch, whose product is faster than numpy's on blocks of this size.
    """
    import torch  # late: commands that only read scores start without it

    n_images, n_texts = len(image_rows), len(text_rows)
    width = -(-n_texts // 8) * 8
    scores = buffer[: n_images * width].reshape(n_images, width)
    scores[:, n_texts:] = -np.inf
    torch.mm(torch.from_numpy(image_rows), torch.from_numpy(text_rows).T, out=torch.from_numpy(scores[:, :n_texts]))
    return scores


def _leave_out_own_pairs(scores: np.ndarray, images: slice, texts: slice, targets: _Targets) -> None:
    """Set own pairs to -inf: a target does not beat itself, and an image's other texts do not beat its best one.

    Their exact scores are known, so they also show whether the product was as precise as float32 is.
    """
    owners = targets.indices[texts]
    own = np.flatnonzero((owners >= images.start) & (owners < images.stop))
    pairs = (owners[own] - images.start, own)
    lower, upper = targets.lower[texts][own], targets.upper[texts][own]
    if np.any((scores[pairs] < lower) | (scores[pairs] > upper)):
        raise UserError(
            "matrix products are less precise than float32, ranks would be wrong; "
            "call torch.set_float32_matmul_precision('highest')"
        )
    scores[pairs] = -np.inf


def _count_better(tile: _Tile, query_axis: int, targets: _Targets) -> np.ndarray:
    """How many candidates of the tile beat each query's target; queries are the tile's rows (0) or columns (1)."""
    queries, candidates = (tile.rows, tile.columns) if query_axis == 0 else (tile.columns, tile.rows)
    thresholds = slice(queries.start, queries.start + tile.scores.shape[query_axis])
    shape = (-1, 1) if query_axis == 0 else (1, -1)
    certain = tile.scores > targets.upper[thresholds].reshape(shape)
    doubtful = np.flatnonzero(certain ^ (tile.scores >= targets.lower[thresholds].reshape(shape)))
    counts = (_count_rows, _count_columns)[query_axis](certain)[: queries.stop - queries.start]
    if len(doubtful):
        pairs = np.divmod(doubtful, tile.scores.shape[1])
        scores = tile.exact_scores(*pairs)
        query, candidate = pairs[query_axis], pairs[1 - query_axis] + candidates.start
        target, index = targets.scores[queries][query], targets.indices[queries][query]
        better = (scores > target) | ((scores == target) & (candidate < index))
        counts += np.bincount(query[better], minlength=len(counts))
    return counts


def _count_rows(flags: np.ndarray) -> np.ndarray:
    """True values per row: each 64-bit word holds eight byte-wide counters, which cannot overflow in a tile."""
    counters = np.add.reduce(flags.view(np.uint64), axis=1).view(np.uint8)
    return counters.reshape(len(flags), 8).sum(axis=1, dtype=np.int64)


def _count_columns(flags: np.ndarray) -> np.ndarray:
    """True values per column, summed in bytes, which cannot overflow in a tile."""
    return np.add.reduce(flags.view(np.uint8), axis=0, dtype=np.uint8).astype(np.int64)
