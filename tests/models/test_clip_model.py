"""CLIP as a fairseq model: where its weights come from, and what is trained."""

import math

import pytest
import torch

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.expandable_embedding import GrowthOptions, grow_rows
from mlvl_fairseq.modules.heads import FeatureHead

TOKENS = torch.tensor([[1, 5, 9, 59, 0, 0, 0, 0, 0, 0], [1, 7, 3, 2, 8, 59, 0, 0, 0, 0]])  # 59 ends a text
EOS_POSITIONS = torch.tensor([3, 5])


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@torch.no_grad()
def test_features_and_temperature_are_the_file_s(new_model, clip_of, clip_file):
    model, clip_model = new_model(with_images=True, init_from=clip_file()), clip_of()
    images = torch.randn(2, 3, 16, 16)
    features = model(TOKENS, EOS_POSITIONS, images)
    torch.testing.assert_close(features["text"], clip_model.encode_text(TOKENS), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(features["image"], clip_model.encode_image(images), rtol=1e-5, atol=1e-6)
    assert model.temperature.item() == pytest.approx(0.07) and model.max_positions() == 10
    assert trained(model) == set(dict(model.named_parameters()))


def test_temperature_is_bounded_as_in_clip(new_model):
    model = new_model(with_images=True)
    assert model.temperature.item() == pytest.approx(0.07)
    model.logit_scale.data.fill_(10)
    assert model.temperature.item() == pytest.approx(0.01)
    model.logit_scale.data.fill_(math.log(50))
    assert model.temperature.item() == pytest.approx(0.02)


def test_new_tokens_get_rows_of_their_own(new_model, clip_of, clip_file):
    growth = GrowthOptions(mean=0.5, std=0.1, seed=7)
    grown = new_model(vocab_size=75, init_from=clip_file(), growth=growth).text.token_embedding.weight
    clip_rows = clip_of().token_embedding.weight
    assert torch.equal(grown, grow_rows(clip_rows, 75, 0.5, 0.1, 7)) and torch.equal(grown[:60], clip_rows)


def test_continual_learning_trains_the_token_embedding_only(language_model):
    model = language_model(75)
    assert model.vision is None and not hasattr(model, "logit_scale")
    assert trained(model) == {"text.token_embedding.weight"}


def test_a_pattern_freezes_one_tower(new_model, clip_file):
    model = new_model(with_images=True, init_from=clip_file(), freeze="^vision")
    assert trained(model) == {name for name, _ in model.named_parameters() if not name.startswith("vision.")}
    assert all(name.startswith("vision.") for name in model.frozen_names)


def test_an_empty_pattern_trains_all(language_model):
    model = language_model(freeze="")
    assert trained(model) == set(dict(model.named_parameters())) and model.frozen_names == []


@pytest.mark.parametrize("pattern, message", [
    ("(", "'[(]' is no regular expression"),
    ("^image", "'.image' matches no parameter"),
    (".", "'[.]' leaves nothing to train"),
])  # fmt: skip
def test_useless_patterns(new_model, clip_file, pattern, message):
    with pytest.raises(UserError, match=f"--freeze {message}"):
        new_model(init_from=clip_file(), freeze=pattern)


@pytest.mark.parametrize("options, message", [
    ({"text_layers": 3}, "the text tower has layers 2, not 3: choose another --arch"),
    ({"text_width": 32, "text_heads": 2}, "the text tower has width 64, not 32; heads 1, not 2; mlp_width 256"),
    ({"embed_dim": 16}, "the text tower has embed_dim 32, not 16"),
    ({"context_length": 77}, "the text tower has context_length 10, not 77"),
    ({"image_size": 32}, "the vision tower has image_size 16, not 32"),
    ({"vocab_size": 40}, "its vocabulary is larger than the corpus's"),
])  # fmt: skip
def test_files_of_another_architecture_are_named(new_model, clip_file, options, message):
    with pytest.raises(UserError, match=f"0.pt: {message}"):
        new_model(with_images=True, init_from=clip_file(), **options)


def test_given_image_features_go_through_a_head(new_model):
    model = new_model(with_images=True, image_tower="features", feature_dim=24)
    assert isinstance(model.vision, FeatureHead) and model.vision.ln_pre.normalized_shape == (24,)
    features = model(TOKENS, EOS_POSITIONS, torch.randn(2, 24))
    assert features["image"].shape == features["text"].shape == (2, 32)


def test_text_weights_serve_where_images_have_a_head(new_model, clip_file, clip_of):
    model = new_model(with_images=True, image_tower="features", feature_dim=24, init_from=clip_file())
    assert torch.equal(model.text.text_projection, clip_of().text_projection)


def test_a_clip_that_grew_by_other_languages_is_refused(new_model, tmp_path):
    """Its rows are of as many tokens, and of others."""
    grown = new_model(vocab_size=62, with_images=True)
    content = {
        "cfg": {"model": {"text_heads": 1, "vision_heads": 1, "activation": "quick_gelu"}},
        "model": dict(grown.state_dict()),
        "task_state": {"vocabulary": {"tokens": ["xqqde</w>", "xqqfr</w>"], "merges": []}},
    }
    torch.save(content, tmp_path / "grown.pt")
    given = {"with_images": True, "init_from": str(tmp_path / "grown.pt")}
    goes_on = new_model(vocab_size=63, grown_by=["xqqde</w>", "xqqfr</w>", "xqqcs</w>"], **given)
    assert torch.equal(goes_on.text.token_embedding.weight[:62], grown.text.token_embedding.weight)
    for other in (["xqqfr</w>", "xqqde</w>"], []):
        with pytest.raises(UserError, match="grown.pt was trained with another tokenizer .* the same languages first"):
            new_model(vocab_size=62, grown_by=other, **given)
