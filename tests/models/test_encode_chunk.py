"""--encode-chunk: the real model and criterion make the same update, however many rows are encoded at a time."""

from types import SimpleNamespace

import pytest
import torch

from mlvl_fairseq.criterions.clip_contrastive import ClipContrastiveConfig, ClipContrastiveCriterion
from mlvl_fairseq.data.text import ClipTokenizer, clip_vocabulary
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.models.clip import ClipConfig, ClipModel
from mlvl_fairseq.modules.expandable_embedding import GrowthOptions
from mlvl_fairseq.tasks.cll_retrieval import CllRetrievalTask

ROWS, VOCABULARY = 40, 60  # 40: chunks of 33 rows and more are cut into groups of like length by the text tower


def captions(rows=ROWS):
    generator = torch.Generator().manual_seed(1)
    return {
        "tokens": torch.randint(VOCABULARY, (rows, 10), generator=generator),
        "eos_positions": torch.randint(2, 10, (rows,), generator=generator),
    }


def batch(images):
    ids = torch.randint(15, (ROWS,), generator=torch.Generator().manual_seed(3))
    return {
        "net_input": captions(), "image_features": images, "image_ids": ids, "nsentences": ROWS, "ntokens": 10 * ROWS,
    }  # fmt: skip


def update(model, sample):
    """Loss of a step, and the trained parameters after it."""
    criterion = ClipContrastiveCriterion(ClipContrastiveConfig(), SimpleNamespace(trains_image_tower=True)).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    loss, rows, _ = criterion(model.train(), sample)
    (loss / rows).backward()
    optimizer.step()
    return [loss.detach(), *(p.detach() for p in model.parameters() if p.requires_grad)]


@pytest.mark.parametrize("size", [1, 7, 33])
@pytest.mark.parametrize("options", [
    {"image_tower": "vit"}, {"image_tower": "vit", "freeze": "^vision"}, {"image_tower": "features", "feature_dim": 12}
], ids=["two transformers", "frozen image tower", "given features"])  # fmt: skip
def test_an_update_is_the_same(options, size, new_model):
    shape = (12,) if "feature_dim" in options else (3, 16, 16)
    images, updated = torch.randn(ROWS, *shape, generator=torch.Generator().manual_seed(2)), []
    for chunk in (0, size):
        torch.manual_seed(0)
        updated.append(update(new_model(with_images=True, encode_chunk=chunk, **options), batch(images)))
    for whole, chunked in zip(*updated, strict=True):
        torch.testing.assert_close(chunked, whole, rtol=1e-5, atol=1e-6)


def test_validation_is_the_same_with_few_rows_at_a_time_in_either_tower(new_model):
    torch.manual_seed(0)
    model, images = new_model(with_images=True, encode_chunk=7), torch.randn(ROWS, 3, 16, 16)
    rows = []
    for tower in (model.text, model.vision):
        tower.register_forward_hook(lambda _, args, __: rows.append(len(args[0])))
    with torch.no_grad():
        chunked = model(**captions(), images=images)
        assert rows == 2 * [7, 7, 7, 7, 7, 5]
        model.encode_chunk = 0
        whole = model(**captions(), images=images)
    for name in ("text", "image"):
        torch.testing.assert_close(chunked[name], whole[name], rtol=1e-5, atol=1e-6)


def test_the_loss_of_an_adapter_is_that_of_the_whole_batch():
    task = SimpleNamespace(
        source_dictionary=range(VOCABULARY), trains_image_tower=False, image_feature_dim=0, growth=GrowthOptions(),
        default_freeze=CllRetrievalTask.default_freeze, current=["de"], languages=["de"], position=0,
        seed_for=lambda purpose: purpose, tokenizer=ClipTokenizer(clip_vocabulary()),
    )  # fmt: skip
    options = {"embed_dim": 32, "text_width": 32, "text_heads": 2, "text_layers": 2, "context_length": 10}
    torch.manual_seed(0)
    model = ClipModel.build_model(ClipConfig(adapter="dual_prompt", **options), task).train()
    gradients = []
    for model.encode_chunk in (0, 7):
        features = model(**captions())
        loss = features["text"].square().mean() + features["auxiliary_loss"]
        trained = [p for p in model.parameters() if p.requires_grad]
        gradients.append([loss, *torch.autograd.grad(loss, trained)])
    for whole, chunked in zip(*gradients, strict=True):
        torch.testing.assert_close(chunked, whole, rtol=1e-5, atol=1e-7)


def test_fewer_than_no_rows_are_refused(new_model):
    with pytest.raises(UserError, match="--encode-chunk -1 is no number of rows; 0 encodes all at once"):
        new_model(with_images=True, encode_chunk=-1)
