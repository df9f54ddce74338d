from types import SimpleNamespace

import pytest
import torch

from mlvl_fairseq.compat import import_clip
from mlvl_fairseq.models.clip import ClipConfig, ClipModel, GrowthOptions
from mlvl_fairseq.tasks.cll_retrieval import CllRetrievalTask

CLIP_SIZE = 60
DIMENSIONS = dict(
    embed_dim=32, image_size=16, patch_size=8, vision_width=64, vision_layers=2, vision_heads=1,
    text_width=64, text_heads=1, text_layers=2, context_length=10,
)  # fmt: skip


def new_clip(seed=0):
    """A small `clip.model.CLIP` with the dimensions of DIMENSIONS."""
    torch.manual_seed(seed)
    return import_clip().model.CLIP(32, 16, 2, 64, 8, 10, CLIP_SIZE, 64, 1, 2).eval()


@pytest.fixture(scope="session")
def clip_file(tmp_path_factory):
    """Weights of `new_clip(seed)` in a file: ``clip_file(seed)`` is its path."""
    folder = tmp_path_factory.mktemp("clip")

    def path(seed=0):
        file = folder / f"{seed}.pt"
        if not file.exists():
            torch.save(new_clip(seed).state_dict(), file)
        return str(file)

    return path


def fake_task(vocab_size=CLIP_SIZE, image_tower=False, freeze="", growth=GrowthOptions()):
    """What `ClipModel.build_model` asks a task for."""
    return SimpleNamespace(
        source_dictionary=range(vocab_size), trains_image_tower=image_tower, image_feature_dim=0, default_freeze=freeze,
        growth=growth,
    )  # fmt: skip


@pytest.fixture
def language_model(clip_file):
    """``language_model(vocab_size)``: the model of one language of a sequence, as `cll_retrieval` builds it."""

    def build(vocab_size=CLIP_SIZE, seed=0, growth=GrowthOptions(), **options):
        task = fake_task(vocab_size, freeze=CllRetrievalTask.default_freeze, growth=growth)
        return ClipModel.build_model(ClipConfig(**DIMENSIONS, init_from=clip_file(seed), **options), task).eval()

    return build
