import pytest
from drawn_photos import NAMES, draw

from mlvl_fairseq import load_model
from mlvl_fairseq.search.building import IndexOptions, update_index
from mlvl_fairseq.search.sources import source_of


@pytest.fixture(scope="session")
def model(small_clip):
    return load_model(small_clip)


@pytest.fixture
def photos(tmp_path):
    """Eight pictures, one of them hidden, and something else."""
    folder = tmp_path / "photos"
    for seed, name in enumerate(NAMES):
        draw(folder / name, seed)
    (folder / "notes.txt").write_text("no picture\n")
    draw(folder / ".hidden" / "z.png", 99)
    return folder


@pytest.fixture
def update(model):
    """``update(folder, images)`` brings an index up to date and says what changed."""

    def update(folder, images, **options):
        return update_index(folder, source_of(images), model.encoder, IndexOptions(batch_size=2, **options))

    return update


@pytest.fixture
def index(tmp_path, photos, update):
    """The folder of an index of the eight photos."""
    update(tmp_path / "index", photos)
    return tmp_path / "index"
