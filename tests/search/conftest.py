from types import SimpleNamespace

import numpy as np
import pytest
from drawn_photos import NAMES, draw

from mlvl_fairseq import load_model
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.search.building import IndexOptions, update_index
from mlvl_fairseq.search.folder import Index, Part
from mlvl_fairseq.search.manifest import IndexManifest, PartEntry
from mlvl_fairseq.search.sources import source_of


@pytest.fixture(scope="session")
def model(small_clip):
    return load_model(small_clip)


def draw_photos(folder):
    """Eight pictures, one that is hidden, and something else."""
    for seed, name in enumerate(NAMES):
        draw(folder / name, seed)
    (folder / "notes.txt").write_text("no picture\n")
    draw(folder / ".hidden" / "z.png", 99)
    return folder


@pytest.fixture
def photos(tmp_path):
    return draw_photos(tmp_path / "photos")


@pytest.fixture(scope="session")
def update(model):
    """``update(folder, images)`` brings an index up to date and says what changed."""

    def update(folder, images, **options):
        return update_index(folder, source_of(images), model.encoder, IndexOptions(batch_size=2, **options))

    return update


@pytest.fixture
def encoded(monkeypatch):
    """How many pictures were encoded; ``encoded.stop_at = 5`` stops before the fifth."""
    count, encode = SimpleNamespace(pictures=0, stop_at=None), Encoder.encode_images

    def counting(self, pixels):
        if count.stop_at is not None and count.pictures + len(pixels) >= count.stop_at:
            raise KeyboardInterrupt
        count.pictures += len(pixels)
        return encode(self, pixels)

    monkeypatch.setattr(Encoder, "encode_images", counting)
    return count


@pytest.fixture
def index(tmp_path, photos, update):
    """The folder of an index of the eight photos."""
    update(tmp_path / "index", photos)
    return tmp_path / "index"


@pytest.fixture(scope="session")
def standing(tmp_path_factory, update):
    """The same, for tests that change nothing; its photos are beside it."""
    folder = tmp_path_factory.mktemp("standing")
    update(folder / "index", draw_photos(folder / "photos"))
    return folder / "index"


@pytest.fixture
def index_of(tmp_path):
    """``index_of(vectors, gone)``: an opened index of vectors alone, in parts of 700 rows, without some rows."""

    def index_of(vectors, gone=()):
        blocks = [vectors[start : start + 700] for start in range(0, len(vectors), 700)]
        entries = [PartEntry(f"{number:06d}", 0, len(block)) for number, block in enumerate(blocks)]
        manifest = IndexManifest("model", "0" * 64, vectors.shape[1], str(vectors.dtype), parts=entries)
        parts = [Part(entry, tmp_path, block, np.zeros(len(block), bool)) for entry, block in zip(entries, blocks)]
        marks = np.zeros(len(vectors), np.uint8)
        marks[list(gone)] = 1
        return Index(tmp_path, manifest, parts, marks)

    return index_of
