"""Adapters and prompts against the numbers of the published code."""

from types import SimpleNamespace

import pytest
import torch
from golden import END_OF_TEXT, assert_golden, det, golden_text_tower, golden_text_weights, load_golden

from mlvl_fairseq.modules.adapters import TowerShape, build_adapter

# The published names of a language's parameters, and ours.
NAMES = {
    "MLA": {"output_adapters.adapters.it.adapter_down.0": "down", "output_adapters.adapters.it.adapter_up": "up"},
    "LoRA": {
        "self_attn.q_proj.loras.it.lora_A": "query.down",
        "self_attn.q_proj.loras.it.lora_B": "query.up",
        "self_attn.v_proj.loras.it.lora_A": "value.down",
        "self_attn.v_proj.loras.it.lora_B": "value.up",
    },
    "P_Tuning": {
        "0.self_attn.prefix_tuning.pool.prefix_tunings.it.clip_text_model_self_prefix.control_trans.0": "hidden",
        "0.self_attn.prefix_tuning.pool.prefix_tunings.it.clip_text_model_self_prefix.control_trans.2": "output",
        "0.self_attn.prefix_tuning.pool.prefix_tunings.it.clip_text_model_self_prefix.wte.weight": "table",
    },
}
COMPONENTS = 5


@pytest.fixture(scope="module")
def golden_tower():
    tower = golden_text_tower()
    tower.load_state_dict(golden_text_weights())
    return tower.requires_grad_(False)


def golden_captions():
    ids = load_golden("adapters")["ids"]
    tokens = torch.full((len(ids), max(map(len, ids))), END_OF_TEXT)
    for row, caption in enumerate(ids):
        tokens[row, : len(caption)] = torch.tensor(caption)
    return tokens, torch.tensor([caption.index(END_OF_TEXT) for caption in ids])


def named_as_ours(method, name):
    name = name.partition("encoder.layers.")[2]
    for published, ours in NAMES[method].items():
        name = name.replace(published, ours)
    return f"parts.0.{name}"


@pytest.mark.parametrize("method, kind", [("MLA", "bottleneck"), ("LoRA", "lora"), ("P_Tuning", "prefix")])
def test_adapters_of_a_language(golden_tower, method, kind):
    golden = load_golden("adapters")[method]
    adapter = build_adapter(kind, None, TowerShape.of(golden_tower), ["it"])
    shapes = sorted(golden["trainable"].items())
    weights = {named_as_ours(method, name): det(shape, 0.15, 0.05 * i) for i, (name, shape) in enumerate(shapes)}
    adapter.load_state_dict(weights)
    assert sum(parameter.numel() for parameter in adapter.parameters()) == golden["n_trainable"]
    for padding in (0, 6):
        tokens, ends = golden_captions()
        tokens = torch.nn.functional.pad(tokens, (0, padding), value=END_OF_TEXT)
        assert_golden(adapter(golden_tower, tokens, ends, "it").features, golden["features"], atol=2e-6)


def filled(shapes):
    return {name.split(".")[-1]: det(shape, 0.3, 0.1 * i) for i, (name, shape) in enumerate(sorted(shapes.items()))}


def dual_prompt(tensors, shape, entries, languages, **options):
    """With the published pool: prompts ``e_p_<layer>`` [entries, length, width], keys ``e_k_<layer>``."""
    given = SimpleNamespace(dual_pool=entries, dual_depth=4, dual_e_length=tensors["e_p_2"].shape[1], **options)
    adapter = build_adapter("dual_prompt", given, shape, languages)
    state = {"shared": torch.stack([tensors["g_p_0"], tensors["g_p_1"]])}
    for i in range(entries):
        state[f"parts.{i}.prompts"] = torch.stack([tensors[f"e_p_{layer}"][i] for layer in (2, 3, 4)])
        state[f"parts.{i}.keys"] = torch.stack([tensors[f"e_k_{layer}"][i] for layer in (2, 3, 4)])
    adapter.load_state_dict(state)
    return adapter


def coda_prompt(tensors, shape, components, layers, languages, **options):
    """With the published pool: ``e_p_<layer>`` [entries, length, width], ``e_k_<layer>``, ``e_a_<layer>``."""
    given = SimpleNamespace(coda_components=components, coda_layers=",".join(map(str, layers)), **options)
    adapter = build_adapter("coda_prompt", given, shape, languages)
    state = {}
    for i in range(len(languages)):
        rows = slice(components * i, components * (i + 1))
        for name, published in (("prompts", "e_p"), ("keys", "e_k"), ("attention", "e_a")):
            state[f"parts.{i}.{name}"] = torch.stack([tensors[f"{published}_{layer}"][rows] for layer in layers])
    adapter.load_state_dict(state)
    return adapter


def halves(prompts, rows):
    """Keys and values [layers][rows, length / 2, width] of prompts, which may serve all rows."""
    layers = [prompts[layer].expand(rows, -1, -1).chunk(2, dim=1) for layer in sorted(prompts)]
    return [key for key, _ in layers], [value for _, value in layers]


def assert_prompts(prompts, golden):
    keys, values = halves(prompts, 3)
    for ours, theirs in ((keys, golden["keys"]), (values, golden["values"])):
        assert len(ours) == len(theirs)
        for layer, expected in zip(ours, theirs):
            assert_golden(layer, expected)


SMALL = TowerShape(width=8, layers=6, embed_dim=8)


def test_dual_prompts():
    golden = load_golden("prompts")
    adapter = dual_prompt(filled(golden["dual_shapes"]), SMALL, 4, ["en", "it"])
    prompts, loss = adapter.prompts(det((3, 8), 1, 0.25))
    assert_prompts(prompts, golden["dual_train"])
    assert_golden(loss, golden["dual_train"]["loss"])
    prompts, loss = adapter.eval().prompts(det((3, 8), 1, 0.25))
    assert_prompts(prompts, golden["dual_eval"])
    assert loss is None


@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("training", [True, False])
def test_coda_prompts(position, training):
    golden = load_golden("prompts")
    adapter = coda_prompt(filled(golden["coda_shapes"]), SMALL, 2, [0, 1, 2], ["en", "it"][: position + 1])
    prompts, loss = adapter.train(training).prompts(det((3, 8), 1, 0.25))
    assert_prompts(prompts, golden[f"coda_task{position}_{'train' if training else 'eval'}"])
    assert loss is None


@pytest.fixture(scope="module")
def prompt_adapter(golden_tower):
    """``prompt_adapter(method, prompt_mask)``: a model that has learned three languages."""

    def build(method, prompt_mask):
        golden, languages = load_golden("adapters")[method], ["en", "it", "de"]
        assert golden["task_count"] == len(languages) - 1
        tensors, shape = filled(golden["prompt_shapes"]), TowerShape.of(golden_tower)
        if method == "DualPrompt":
            return dual_prompt(tensors, shape, 36, languages, prompt_mask=prompt_mask).eval()
        return coda_prompt(tensors, shape, COMPONENTS, range(5), languages, prompt_mask=prompt_mask).eval()

    return build


@pytest.mark.parametrize("method", ["DualPrompt", "CodaPrompt"])
def test_features_with_prompts_as_released(golden_tower, prompt_adapter, method):
    """The published mask hides tokens of the shorter captions; what it hides follows the batch's longest caption."""
    golden, adapter = load_golden("adapters")[method], prompt_adapter(method, "published")
    tokens, ends = golden_captions()
    assert_golden(golden_tower(tokens, ends), golden["query"], atol=2e-6)
    features = adapter(golden_tower, tokens, ends).features
    assert_golden(features, golden["sentence_embedding_AS_RELEASED"], atol=2e-6)
    assert (features[1] - torch.tensor(golden["sample1_alone_unpadded"])).abs().max() > 1e-2


@pytest.mark.parametrize("method", ["DualPrompt", "CodaPrompt"])
def test_features_with_prompts_whatever_the_padding(golden_tower, prompt_adapter, method):
    golden, adapter = load_golden("adapters")[method], prompt_adapter(method, "left")
    tokens, ends = golden_captions()
    features = adapter(golden_tower, tokens, ends).features
    assert_golden(features[0], golden["sentence_embedding_AS_RELEASED"][0], atol=2e-6)  # has no padding
    assert_golden(features[1], golden["sample1_alone_unpadded"], atol=2e-6)
