"""EfficientNet-Lite0 against timm's, against its published size, and TensorFlow's padding by counting."""

import logging
import re

import pytest
import torch
from PIL import Image

from mlvl_fairseq.checkpoints.towers import load_tower
from mlvl_fairseq.data.images.transforms import ImageTransform
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.modules.towers.efficientnet_lite import EfficientNetLiteConfig, SameConv

CONFIG = EfficientNetLiteConfig(image_size=96)


@pytest.fixture(scope="module")
def timm_model():
    """timm's, statistics of normalisation drawn, too."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_lite0", num_classes=5).eval()
    for name, tensor in model.state_dict().items():
        if re.search(r"bn\d\.(weight|running_var)$", name):
            tensor.uniform_(0.5, 1.5)
        elif re.search(r"bn\d\.(bias|running_mean)$", name):
            tensor.normal_(0, 0.3)
    return model


@pytest.fixture(scope="module")
def tower(timm_model, tmp_path_factory):
    """Ours with timm's weights, by way of a file."""
    path, tower = tmp_path_factory.mktemp("timm") / "model.pth", CONFIG.build()
    torch.save(timm_model.state_dict(), path)
    load_tower(tower, CONFIG, path)
    return tower


@torch.no_grad()
def test_states_and_vectors_are_timm_s(timm_model, tower):
    images = torch.randn(2, 3, 96, 96)
    tower.keeps_states = True
    output, expected = tower(images), timm_model.forward_features(images)
    assert expected.std() > 0.1
    torch.testing.assert_close(output.states, expected.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output.vector, timm_model.forward_head(expected, pre_logits=True), rtol=1e-4, atol=1e-4)
    tower.keeps_states = False
    assert tower(images).states is None and tower.width == 1280


@torch.no_grad()
def test_training_leaves_statistics_and_vectors_as_they_are(tower):
    """A picture's vector does not depend on the others of its batch."""
    images, before = torch.randn(3, 3, 96, 96), {name: one.clone() for name, one in tower.state_dict().items()}
    alone, together = tower.eval()(images[:1]).vector, tower.train()(images).vector
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(one, before[name]) for name, one in tower.state_dict().items())


def test_it_trains(tower):
    tower(torch.randn(2, 3, 96, 96)).vector.pow(2).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in tower.parameters())
    tower.zero_grad()


def test_names_of_efficientnet_pytorch_and_its_classifier(tower, tmp_path, caplog):
    """What the package's file has beside the tower is left out."""
    counters = {name.replace("weight", "num_batches_tracked"): torch.tensor(3) for name in norms(tower)}
    classifier = {"_fc.weight": torch.ones(5, 1280), "_fc.bias": torch.ones(5)}
    torch.save({**tower.state_dict(), **counters, **classifier}, tmp_path / "model.pth")
    again = CONFIG.build()
    with caplog.at_level(logging.INFO):
        load_tower(again, CONFIG, tmp_path / "model.pth")
    assert "its classifier is left out (_fc.bias, _fc.weight)" in caplog.text and len(counters) == 49
    assert all(torch.equal(one, tower.state_dict()[name]) for name, one in again.state_dict().items())


def norms(tower):
    return [name for name, _ in tower.named_parameters() if re.search(r"_bn\d\.weight$", name)]


def test_other_networks_are_refused(timm_model, tower, tmp_path):
    more = {**timm_model.state_dict(), "blocks.7.0.conv_dw.weight": torch.ones(1)}
    torch.save(more, tmp_path / "larger.pth")
    with pytest.raises(DataError, match=r"larger.pth.*blocks\.7\.0\.conv_dw\.weight.*of no stage"):
        load_tower(tower, CONFIG, tmp_path / "larger.pth")
    torch.save({"conv_stem.weight": torch.ones(32, 3, 3, 3)}, tmp_path / "part.pth")
    with pytest.raises(DataError, match="part.pth"):
        load_tower(tower, CONFIG, tmp_path / "part.pth")


def test_size_strides_and_parts(tower):
    classifier = 1000 * 1280 + 1000
    assert sum(parameter.numel() for parameter in tower.parameters()) == 4_652_008 - classifier
    with pytest.raises(UserError, match="image size 100 is not a multiple of 32 pixels"):
        EfficientNetLiteConfig(100).build()
    names = [name for name, _ in tower.named_parameters()]
    found = [name for name in names if re.search(tower.parts.norm, name)]
    assert len(found) == 2 * len(norms(tower)) and all("_bn" in name for name in found)
    last = {name for name in names if re.search(tower.parts.last, name)}
    assert last == {name for name in names if name.startswith(("_blocks.15.", "_conv_head.", "_bn1."))}
    with pytest.raises(UserError, match="there are no layerwise adapters for a EfficientNetLiteTower"):
        tower.insert_adapters(4)


@pytest.mark.parametrize("size, expected", [(4, [3, 2]), (5, [2, 3, 2]), (7, [2, 3, 3, 2])])
def test_padding_is_tensorflow_s(size, expected):
    """Ones under a kernel of three ones: how many of them are pixels. An odd column of padding is at the end."""
    conv = SameConv(1, 1, 3, 2, bias=False)
    torch.nn.init.ones_(conv.weight)
    with torch.no_grad():
        counted = conv(torch.ones(1, 1, size, size))[0, 0]
    assert torch.equal(counted, torch.outer(torch.tensor(expected), torch.tensor(expected)).float())


def test_pixels_are_centred_at_127():
    pixels = ImageTransform("efficientnet_lite", 224)(Image.new("RGB", (300, 200), (255, 127, 0)))
    assert pixels.shape == (3, 224, 224)
    assert pixels.flatten(1).unique(dim=1).flatten().tolist() == [1.0, 0.0, -0.9921875]
