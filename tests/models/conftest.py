from types import SimpleNamespace

import pytest
import torch

from mlvl_fairseq.data.text import ClipTokenizer, Vocabulary, clip_vocabulary
from mlvl_fairseq.fairseq_patches import import_clip
from mlvl_fairseq.models.clip import ClipConfig, ClipModel
from mlvl_fairseq.modules.expandable_embedding import GrowthOptions
from mlvl_fairseq.tasks.cll_retrieval import CllRetrievalTask

CLIP_SIZE = 60  # tokens of the small CLIP that everything starts from


@pytest.fixture(scope="session")
def clip_of():
    """``clip_of(seed)`` is a small `clip.model.CLIP` with weights of its own."""

    def build(seed=0):
        torch.manual_seed(seed)
        return import_clip().model.CLIP(32, 16, 2, 64, 8, 10, CLIP_SIZE, 64, 1, 2).eval()

    return build


@pytest.fixture(scope="session")
def clip_file(clip_of, tmp_path_factory):
    """``clip_file(seed)`` is a file with the weights of ``clip_of(seed)``."""
    folder = tmp_path_factory.mktemp("clip")

    def path(seed=0):
        file = folder / f"{seed}.pt"
        if not file.exists():
            torch.save({**clip_of(seed).state_dict(), "context_length": torch.tensor(10)}, file)
        return str(file)

    return path


@pytest.fixture(scope="session")
def new_model():
    """Builds a `ClipModel` with the small CLIP's dimensions for a task with the given attributes."""

    def build(
        vocab_size=CLIP_SIZE, with_images=False, default_freeze="", feature_dim=0, growth=None, grown_by=(), **options
    ):
        dimensions = dict(
            embed_dim=32, image_size=16, patch_size=8, vision_width=64, vision_layers=2, vision_heads=1,
            text_width=64, text_heads=1, text_layers=2, context_length=10,
        )  # fmt: skip
        task = SimpleNamespace(
            source_dictionary=range(vocab_size), trains_image_tower=with_images, image_feature_dim=feature_dim,
            default_freeze=default_freeze, growth=growth or GrowthOptions(),
            tokenizer=ClipTokenizer(clip_vocabulary().grown_by(Vocabulary([*grown_by], []))),
        )  # fmt: skip
        return ClipModel.build_model(ClipConfig(**{**dimensions, **options}), task).eval()

    return build


@pytest.fixture(scope="session")
def language_model(new_model, clip_file):
    """``language_model(vocab_size)``: the model of one language of a sequence, as the task cll_retrieval builds it."""

    def build(vocab_size=CLIP_SIZE, seed=0, **options):
        freeze = CllRetrievalTask.default_freeze
        return new_model(vocab_size, default_freeze=freeze, init_from=clip_file(seed), **options)

    return build
