"""--autocast: products in bfloat16, everything that adds up in float32."""

import logging
from types import SimpleNamespace

import pytest
import torch
from fairseq.models import MODEL_REGISTRY

from mlvl_fairseq import models
from mlvl_fairseq.criterions.clip_contrastive import ClipContrastiveConfig, ClipContrastiveCriterion
from mlvl_fairseq.models import _autocast
from mlvl_fairseq.modules import precision
from mlvl_fairseq.registry import import_modules

ROWS = 40


def sample():
    generator = torch.Generator().manual_seed(1)
    return {
        "net_input": {
            "tokens": torch.randint(60, (ROWS, 10), generator=generator),
            "eos_positions": torch.randint(2, 10, (ROWS,), generator=generator),
        },
        "image_features": torch.randn(ROWS, 3, 16, 16, generator=generator),
        "image_ids": torch.arange(ROWS),
        "nsentences": ROWS,
        "ntokens": 10 * ROWS,
    }


def judged(model):
    """Loss, the types of the products, and gradients."""
    types, norms = set(), set()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda _, __, found: types.add(found.dtype))
        if isinstance(module, torch.nn.LayerNorm):
            module.register_forward_hook(lambda _, given, found: norms.add((given[0].dtype, found.dtype)))
    criterion = ClipContrastiveCriterion(ClipContrastiveConfig(), SimpleNamespace(trains_image_tower=True)).train()
    loss, _, log = criterion(model.train(), sample())
    loss.backward()
    assert loss.dtype == torch.float32 and norms == {(torch.float32, torch.float32)}
    assert model.temperature.dtype == torch.float32
    return loss.detach(), types, {name: parameter.grad for name, parameter in model.named_parameters()}


def test_every_model_has_the_option():
    import_modules(models.__name__)
    own = [model for model in MODEL_REGISTRY.values() if model.__module__.startswith("mlvl_fairseq.")]
    missing = [model for model in own if not hasattr(model.__dataclass, "autocast")]
    assert len(own) > 5 and not missing


def test_products_are_in_bfloat16_and_sums_in_float32(new_model, clip_file, caplog, monkeypatch):
    monkeypatch.setattr(_autocast, "cpu_instructions", lambda: ["avx512_bf16"])
    build = {"with_images": True, "init_from": clip_file()}
    with caplog.at_level(logging.INFO):
        loss, types, gradients = judged(new_model(**build, autocast="bf16"))
        expected, full_types, full = judged(new_model(**build, autocast="none"))
    assert types == {torch.bfloat16} and full_types == {torch.float32}
    assert 0 < abs(loss - expected) < 0.01 * expected
    for name, gradient in gradients.items():
        assert gradient.dtype == torch.float32, name
        assert torch.nn.functional.cosine_similarity(gradient.flatten(), full[name].flatten(), dim=0) > 0.95, name
    told = [record.getMessage() for record in caplog.records if "products" in record.getMessage()]
    assert told == [
        "matrix products in bfloat16 (instructions: avx512_bf16), all else in float32",
        "matrix products in float32; avx512_bf16 would be faster: --autocast bf16",
    ]


def test_features_are_float32_and_near(new_model):
    given = {"with_images": True}
    torch.manual_seed(0)
    half = new_model(**given, autocast="bf16")
    torch.manual_seed(0)
    full = new_model(**given)
    batch = sample()
    with torch.no_grad():
        found, expected = (model(**batch["net_input"], images=batch["image_features"]) for model in (half, full))
    for side in ("text", "image"):
        assert found[side].dtype == torch.float32
        cosine = torch.nn.functional.cosine_similarity(found[side], expected[side])
        assert 0.999 < cosine.min() < 1


def test_updates_repeat_byte_for_byte(new_model, clip_file):
    first, second = (judged(new_model(with_images=True, init_from=clip_file(), autocast="bf16")) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(gradient, second[2][name]) for name, gradient in first[2].items())


def test_without_instructions_it_says_so(new_model, caplog, monkeypatch):
    monkeypatch.setattr(_autocast, "cpu_instructions", lambda: [])
    batch = sample()["net_input"]
    with caplog.at_level(logging.INFO):
        new_model()(**batch)
        model = new_model(autocast="bf16")
        model(**batch), model(**batch)
    told = [record.getMessage() for record in caplog.records if "bf16" in record.getMessage()]
    assert told == ["--autocast bf16: this CPU has no instructions for bfloat16, float32 is faster here"]


@pytest.mark.parametrize(
    "wanted, gpu_has_it, weight, expected",
    [
        ("auto", True, torch.zeros(1), True),
        ("auto", False, torch.zeros(1), False),
        ("none", True, torch.zeros(1), False),
        ("bf16", False, torch.zeros(1), True),
        ("bf16", True, torch.zeros(1, dtype=torch.float16), False),
        ("auto", True, torch.zeros(1, dtype=torch.bfloat16), False),
    ],
)
def test_when(wanted, gpu_has_it, weight, expected, monkeypatch):
    monkeypatch.setattr(precision, "takes_bfloat16", lambda device: gpu_has_it)
    assert precision.in_bfloat16(wanted, weight) is expected
    with torch.autocast("cpu", torch.bfloat16):  # as fairseq's --amp on a GPU
        assert precision.in_bfloat16(wanted, weight) is False


def test_a_cpu_is_asked_for_it_only():
    assert not precision.takes_bfloat16(torch.device("cpu"))


def test_instructions_are_torch_s(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": False}, raising=False)
    assert precision.cpu_instructions() == ["avx512_bf16"]
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert precision.cpu_instructions() == []
