"""Vision transformers against timm's, on random weights in float64: outputs, and gradients of every parameter.

timm takes seconds to import; these tests are together for that.
"""

import pytest
import torch

from mlvl_fairseq.checkpoints.towers import load_tower
from mlvl_fairseq.modules.adapters.layerwise import LayerwiseAdapter
from mlvl_fairseq.modules.towers.deit3 import DeiT3Config
from mlvl_fairseq.modules.towers.vit import ViTConfig

SIZES = {"image_size": 24, "patch_size": 8, "width": 12, "layers": 3, "heads": 3}
CONFIGS = {"vit": ViTConfig(**SIZES), "deit3": DeiT3Config(**SIZES)}


@pytest.fixture(scope="session")
def timm_model():
    """``timm_model("vit")``: timm's model of these dimensions, every parameter random, in float64."""
    vision_transformer = pytest.importorskip("timm.models.vision_transformer")
    own = {"deit3": {"no_embed_class": True, "init_values": 1e-4}}

    def build(kind):
        torch.manual_seed(0)
        model = vision_transformer.VisionTransformer(
            img_size=24, patch_size=8, embed_dim=12, depth=3, num_heads=3, num_classes=5, **own.get(kind, {})
        ).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        return model.eval()

    return build


def our_name(name):
    return name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2")


def filled(config, model, folder):
    """Our tower with the weights of timm's model, by way of a file."""
    tower = config.build().double()
    torch.save(model.state_dict(), folder / "timm.pth")
    load_tower(tower, config, folder / "timm.pth")
    tower.load_state_dict({our_name(n): t for n, t in model.state_dict().items() if n[:5] != "head."}, strict=False)
    return tower  # the file's float32 made float64 again


def compare(tower, model, names, states):
    """Outputs and gradients for `names`: timm's -> ours."""
    tower.keeps_states = states
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, 24, 24, generator=generator).double()
    upstream = torch.randn(2, 10 if states else 1, 12, generator=generator).double()
    output, theirs = tower(images), model.forward_features(images)
    ours = output.states if states else output.vector[:, None]
    theirs = theirs if states else theirs[:, :1]
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    (ours * upstream).sum().backward()
    (theirs * upstream).sum().backward()
    for name, parameter in model.named_parameters():
        if name in names:
            gradient = tower.get_parameter(names[name]).grad
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-8, atol=1e-9, msg=name)


@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize("kind", CONFIGS)
def test_outputs_and_gradients_are_timm_s(timm_model, tmp_path, kind, states):
    model = timm_model(kind)
    tower = filled(CONFIGS[kind], model, tmp_path)
    names = {name: our_name(name) for name, _ in model.named_parameters() if not name.startswith("head.")}
    assert set(names.values()) == {name for name, _ in tower.named_parameters()}
    compare(tower, model, names, states)


def test_adapters_are_those_of_a_model_with_them_in_front_of_its_normalisations(timm_model, tmp_path):
    model, config = timm_model("vit"), CONFIGS["vit"]
    tower = filled(config, model, tmp_path)
    tower.insert_adapters(4)
    tower.double()
    names = {name: name for name, _ in tower.named_parameters() if "adapter" not in name}
    for number, (block, own) in enumerate(zip(model.blocks, tower.blocks)):
        for half in (1, 2):
            adapter = LayerwiseAdapter(12, 4).double()
            adapter.load_state_dict(getattr(own, f"adapter{half}").state_dict())
            setattr(block, f"norm{half}", torch.nn.Sequential(adapter, getattr(block, f"norm{half}")))
            for kind in ("weight", "bias"):
                names[f"blocks.{number}.norm{half}.1.{kind}"] = names.pop(f"blocks.{number}.norm{half}.{kind}")
                for part in ("down_sampler", "up_sampler"):
                    theirs = f"blocks.{number}.norm{half}.0.{part}.{kind}"
                    names[theirs] = f"blocks.{number}.adapter{half}.{part}.{kind}"
    compare(tower, model, names, states=False)
    assert len(names) == len(list(tower.parameters()))
