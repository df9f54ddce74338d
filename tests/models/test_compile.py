"""--compile: the same features, gradients and checkpoints, and one program for batches of all sizes."""

import logging

import pytest
import torch
from fairseq.models import MODEL_REGISTRY
from torch._dynamo.utils import counters

from mlvl_fairseq import models
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules import compiling
from mlvl_fairseq.modules.compiling import compile_positions
from mlvl_fairseq.modules.low_rank import insert_lora
from mlvl_fairseq.modules.padding import real_tokens
from mlvl_fairseq.modules.towers.bert import BertConfig, XlmrTowerConfig
from mlvl_fairseq.modules.towers.cclm_text import CclmTextConfig
from mlvl_fairseq.modules.towers.clip_text_tower import ClipTextTowerConfig
from mlvl_fairseq.modules.towers.xlmr import PAD, XlmrConfig
from mlvl_fairseq.modules.x_projector import XProjector
from mlvl_fairseq.networks.peft import LORA_TARGETS
from mlvl_fairseq.registry import import_modules

WIDTH, HEADS, WORDS = 16, 2, 30
SIZES = {"layers": 3, "heads": HEADS, "max_positions": 12}
TOWERS = {
    "bert": BertConfig(WORDS, WIDTH, **SIZES),
    "xlmr": XlmrTowerConfig(WORDS, WIDTH, **SIZES),
    "cclm": CclmTextConfig(WORDS, WIDTH, **SIZES),
    "clip": ClipTextTowerConfig(WORDS, WIDTH, 3, HEADS, 12),
    "mte": XlmrConfig(WORDS, 3, WIDTH, 24, HEADS, 12),
}


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    """Everything of the compiler but the programs that it writes; and nothing of earlier tests."""
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    compiling._compiled.cache_clear()
    torch._dynamo.reset()
    counters.clear()
    yield
    compiling._compiled.cache_clear()
    torch._dynamo.reset()


def texts(rows, longest, seed):
    generator = torch.Generator().manual_seed(seed)
    last = torch.randint(1, longest, (rows,), generator=generator)
    last[seed % rows] = longest - 1
    tokens = torch.randint(2, WORDS, (rows, longest), generator=generator)
    return torch.where(real_tokens(last, longest), tokens, PAD), last


def judged(tower, compute, given):
    """Output, and gradients of a sum that weighs all its numbers differently."""
    tower.zero_grad()
    found = compute(*given)
    generator = torch.Generator().manual_seed(3)
    (found * torch.randn(found.shape, generator=generator)).sum().backward()
    gradients = {name: parameter.grad for name, parameter in tower.named_parameters() if parameter.grad is not None}
    return found.detach(), {name: gradient.clone() for name, gradient in gradients.items()}


def assert_compiled(tower, compute, batches):
    """Equal to the plain one, and what is compiled for the first batch serves those of all other sizes."""
    names = list(tower.state_dict())
    plain = [judged(tower, compute, given) for given in batches]
    assert not counters["stats"] and all(gradients for _, gradients in plain)
    compile_positions(tower)
    graphs = []
    for given, expected in zip(batches, plain, strict=True):
        torch.testing.assert_close(judged(tower, compute, given), expected, rtol=1e-5, atol=1e-6)
        graphs.append(counters["stats"]["unique_graphs"])
    assert 0 < graphs[0] == graphs[-1] <= 4 and not counters["graph_break"]
    assert not {"cache_limit", "recompile_limit"} & counters["frames"].keys()
    assert list(tower.state_dict()) == names


BATCHES = [texts(5, 9, 1), texts(7, 6, 2), texts(4, 11, 3), texts(9, 4, 4)]


CASES = [*((name, "all trains") for name in TOWERS), ("bert", "adapted"), ("clip", "adapted"), ("mte", "layers train")]


@pytest.mark.parametrize("name, kind", CASES)
def test_towers(name, kind):
    torch.manual_seed(1)
    tower = TOWERS[name].build().eval()
    if kind == "adapted":
        tower.insert_adapters(4)
        insert_lora(tower, LORA_TARGETS, 2, 4.0)
    if kind == "layers train":
        tower.requires_grad_(False)
        tower.layers[1:].requires_grad_(True)
    if name == "mte":
        assert_compiled(tower, lambda tokens: tower(tokens)[tokens.ne(PAD)], [(tokens,) for tokens, _ in BATCHES])
    else:
        assert_compiled(tower, lambda *given: tower(*given).vector, BATCHES)


def test_x_projector():
    torch.manual_seed(1)
    projector = XProjector(WIDTH, 24, HEADS, 3).eval()
    batches = [(torch.randn(*tokens.shape, WIDTH), tokens.eq(PAD), last) for tokens, last in BATCHES]
    assert_compiled(projector, projector, batches)


def test_dropout_is_drawn_again_as_it_was():
    torch.manual_seed(1)
    tower = BertConfig(WORDS, WIDTH, **SIZES, dropout=0.4).build().train()
    compile_positions(tower)
    found = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        found.append(tower(*BATCHES[0]).vector)
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_every_model_with_a_text_tower_has_the_option():
    import_modules(models.__name__)
    own = [model for model in MODEL_REGISTRY.values() if model.__module__.startswith("mlvl_fairseq.")]
    without = {model.__module__.rpartition(".")[2] for model in own if not hasattr(model.__dataclass, "compile")}
    assert len(own) > 5 and without == {"image_classifier"}


def test_a_model_says_it_once_and_keeps_names(new_model, caplog):
    tokens, last = BATCHES[0]
    plain = new_model()
    names, expected = list(plain.state_dict()), plain(tokens, last)["text"]
    model = new_model(compile=True)
    model.load_state_dict(plain.state_dict())
    with caplog.at_level(logging.INFO):
        found = [model(tokens, last)["text"] for _ in range(2)][0]
    torch.testing.assert_close(found, expected)
    assert counters["stats"]["unique_graphs"] > 0 and list(model.state_dict()) == names
    assert sum("--compile" in record.getMessage() for record in caplog.records) == 1


def test_what_is_not_packed_is_not_compiled(new_model, monkeypatch):
    monkeypatch.setattr(compiling, "BACKEND", lambda graph, given: pytest.fail("it is compiled"))
    model = new_model(with_images=True, compile=True)
    compile_positions(model)
    model.encode_image(torch.randn(2, 3, 16, 16))
    monkeypatch.setattr("mlvl_fairseq.modules.towers.clip_text.is_exported", lambda: True)
    model(*BATCHES[0])


def test_it_says_why_it_cannot_be_compiled(monkeypatch):
    def without(graph, given):
        raise OSError("there is no compiler\nand more")

    monkeypatch.setattr(compiling, "BACKEND", without)
    tower = TOWERS["clip"].build()
    compile_positions(tower)
    with pytest.raises(UserError, match="^--compile: torch cannot compile here: there is no compiler$"):
        tower(*BATCHES[0])
