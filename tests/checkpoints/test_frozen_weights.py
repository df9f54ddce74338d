"""Frozen weights that a checkpoint leaves to its origin: which tensors they are, and that no others will do."""

import pytest
import torch

from mlvl_fairseq.checkpoints.clip import read_clip_weights
from mlvl_fairseq.checkpoints.source import fingerprint, fingerprint_tensor
from mlvl_fairseq.errors import UserError

GROWN = torch.ones(75, 64)


@pytest.fixture
def official(official_clip, tmp_path):
    """Tensors of the file that training started from, in float32, by tower."""
    torch.save(official_clip.state_dict(), tmp_path / "clip.pt")
    named = {name: tensor.float() for name, tensor in official_clip.state_dict().items() if tensor.dim()}
    vision = {name.removeprefix("visual."): named.pop(name) for name in list(named) if name.startswith("visual.")}
    return {"text": named, "vision": vision}


def frozen_of(official, with_images):
    """All but the token embedding: of a sequence's model the text tower's, of a dual encoder both towers'."""
    towers = ("text", "vision") if with_images else ("text",)
    named = {f"{tower}.{name}": tensor for tower in towers for name, tensor in official[tower].items()}
    return {name: tensor for name, tensor in named.items() if name != "text.token_embedding.weight"}


@pytest.fixture
def trained(official, tmp_path):
    """``trained(with_images)``: a checkpoint with its token embedding, and a fingerprint for what is frozen."""

    def save(with_images):
        model = {
            "text.token_embedding.weight": GROWN,
            "frozen_fingerprint": fingerprint_tensor(fingerprint(frozen_of(official, with_images))),
            **({"logit_scale": torch.tensor(2.5)} if with_images else {}),
        }
        state = {"model": model, "cfg": {"model": {"init_from": str(tmp_path / "clip.pt")}}, "extra_state": {}}
        torch.save(state, tmp_path / "trained.pt")
        return tmp_path / "trained.pt"

    return save


@pytest.mark.parametrize("with_images", [False, True])
def test_what_is_frozen_comes_from_the_origin(official, trained, with_images):
    weights = read_clip_weights(trained(with_images))
    assert torch.equal(weights.text["token_embedding.weight"], GROWN)
    for name, tensor in frozen_of(official, True).items():
        tower, _, inner = name.partition(".")
        assert torch.equal(getattr(weights, tower)[inner], tensor)


@pytest.mark.parametrize("changed, refused_with", [("visual.proj", {True}), ("ln_final.weight", {True, False})])
@pytest.mark.parametrize("with_images", [False, True])
def test_other_frozen_weights_are_refused(official_clip, trained, tmp_path, with_images, changed, refused_with):
    """A model without images does not depend on the image tower."""
    path = trained(with_images)
    state = {name: tensor.clone() for name, tensor in official_clip.state_dict().items()}
    state[changed] += 1
    torch.save(state, tmp_path / "clip.pt")
    if with_images in refused_with:
        with pytest.raises(UserError, match="does not hold the frozen weights that .*trained.pt was trained with"):
            read_clip_weights(path)
    else:
        assert torch.equal(read_clip_weights(path).text["token_embedding.weight"], GROWN)
