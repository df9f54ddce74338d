"""CLIP's towers against golden numbers, against `clip.model`, and against their own definition."""

import pytest
import torch
from golden import END_OF_TEXT, assert_golden, golden_text_tower, golden_text_weights, load_golden

from mlvl_fairseq.modules.towers.clip_text import CLIPTextTower
from mlvl_fairseq.modules.towers.clip_vision import CLIPVisionTower
from mlvl_fairseq.modules.transformer import MultiheadSelfAttention, QuickGELU, Transformer


@pytest.fixture(scope="module")
def golden_tower():
    tower = golden_text_tower()
    tower.load_state_dict(golden_text_weights())
    return tower


@torch.no_grad()
@pytest.mark.parametrize("length", [9, 15, 77])
def test_text_features_match_the_reference_at_any_padding(golden_tower, length):
    golden = load_golden("text_tower")
    tokens = torch.full((3, length), END_OF_TEXT)
    for row, ids in enumerate(golden["ids"]):
        tokens[row, : len(ids)] = torch.tensor(ids)
    eos_positions = torch.tensor([ids.index(END_OF_TEXT) for ids in golden["ids"]])
    features = golden_tower(tokens, eos_positions)
    assert_golden(features, golden["features"], atol=2e-6)


@pytest.fixture(scope="module")
def towers_and_clip(random_clip):
    return *towers_like(random_clip), random_clip


def towers_like(clip_model):
    state = clip_model.state_dict()
    text = CLIPTextTower(vocab_size=120, width=64, layers=2, heads=1, embed_dim=48, context_length=12)
    vision = CLIPVisionTower(image_size=32, patch_size=8, width=128, layers=2, heads=2, embed_dim=48)
    text.load_state_dict({k: v for k, v in state.items() if not k.startswith("visual.") and k != "logit_scale"})
    vision.load_state_dict({k[len("visual.") :]: v for k, v in state.items() if k.startswith("visual.")})
    return text, vision


def random_texts():
    """Eight rows of at most 12 tokens; 119 ends the text, zeros behind it as `clip.tokenize` pads."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, 118, (8, 12), generator=generator)
    eos_positions = torch.randint(1, 12, (8,), generator=generator)
    tokens[torch.arange(8), eos_positions] = 119
    behind = torch.arange(12) > eos_positions[:, None]
    return tokens.masked_fill(behind, 0), eos_positions


@torch.no_grad()
def test_features_equal_those_of_the_clip_package(towers_and_clip):
    text, vision, clip_model = towers_and_clip
    tokens, eos_positions = random_texts()
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(text(tokens, eos_positions), clip_model.encode_text(tokens), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(vision(images), clip_model.encode_image(images), rtol=1e-5, atol=1e-6)


def test_gradients_equal_those_of_the_clip_package(towers_and_clip):
    text, vision, clip_model = towers_and_clip
    tokens, eos_positions = random_texts()
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    (text(tokens, eos_positions).square().sum() + vision(images).square().sum()).backward()
    (clip_model.encode_text(tokens).square().sum() + clip_model.encode_image(images).square().sum()).backward()
    ours = {**dict(text.named_parameters()), **{f"visual.{n}": p for n, p in vision.named_parameters()}}
    for name, parameter in clip_model.named_parameters():
        if name != "logit_scale":
            scale = parameter.grad.abs().max().item()
            torch.testing.assert_close(ours[name].grad, parameter.grad, rtol=1e-4, atol=1e-5 * scale, msg=name)


def test_initial_spread_is_clips(new_clip):
    ours = CLIPTextTower(vocab_size=120, width=64, layers=2, heads=1, embed_dim=48, context_length=12).state_dict()
    for name, theirs in new_clip().state_dict().items():
        if name in ours and theirs.unique().numel() == 1:
            torch.testing.assert_close(ours[name], theirs, msg=name)
        elif name in ours:
            tolerance = 4 / theirs.numel() ** 0.5
            assert ours[name].std().item() == pytest.approx(theirs.std().item(), rel=tolerance), name


def test_causal_attention_does_not_see_what_follows():
    torch.manual_seed(0)
    x = torch.randn(2, 6, 16)
    changed = x.clone()
    changed[:, 4:] = torch.randn(2, 2, 16)
    causal = Transformer(width=16, layers=2, heads=4, causal=True)
    full = Transformer(width=16, layers=2, heads=4)
    torch.testing.assert_close(causal(x)[:, :4], causal(changed)[:, :4])
    assert not torch.allclose(full(x)[:, :4], full(changed)[:, :4])


@torch.no_grad()
def test_attention_is_softmax_of_scaled_products():
    torch.manual_seed(0)
    attention = MultiheadSelfAttention(width=8, heads=2, causal=True)
    torch.nn.init.normal_(attention.in_proj_weight)
    torch.nn.init.normal_(attention.in_proj_bias)
    x = torch.randn(3, 5, 8)
    query, key, value = (x.double() @ attention.in_proj_weight.double().T + attention.in_proj_bias).chunk(3, dim=-1)
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        scores = query[..., part] @ key[..., part].transpose(1, 2) / 2.0
        scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), float("-inf"))
        heads.append(scores.softmax(-1) @ value[..., part])
    expected = torch.cat(heads, -1) @ attention.out_proj.weight.double().T + attention.out_proj.bias
    torch.testing.assert_close(attention.out_proj(attention.mix(x)).double(), expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_half_precision_parameters_and_autocast(random_clip):
    text, vision = towers_like(random_clip)
    tokens, eos_positions = random_texts()
    images = torch.randn(4, 3, 32, 32)
    expected = text(tokens, eos_positions), vision(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(text(tokens, eos_positions).float(), expected[0], rtol=0.05, atol=0.1)
        torch.testing.assert_close(vision(images).float(), expected[1], rtol=0.05, atol=0.1)
    features = text.half()(tokens, eos_positions), vision.half()(images)
    for half, full in zip(features, expected):
        assert half.dtype == torch.float16
        torch.testing.assert_close(half.float(), full, rtol=0.01, atol=0.01)


def test_wrong_sizes_are_named():
    with pytest.raises(ValueError, match="width 10 is not a multiple of the number of attention heads 4"):
        Transformer(width=10, layers=1, heads=4)
    with pytest.raises(ValueError, match="image size 30 is not a multiple of the patch size 8"):
        CLIPVisionTower(image_size=30, patch_size=8, width=8, layers=1, heads=1, embed_dim=4)
    tower = CLIPVisionTower(image_size=16, patch_size=8, width=8, layers=1, heads=1, embed_dim=4)
    with pytest.raises(ValueError, match=r"\(3, 24, 24\).*\(3, 16, 16\)"):
        tower(torch.zeros(1, 3, 24, 24))
    text = CLIPTextTower(vocab_size=10, width=8, layers=1, heads=1, embed_dim=4, context_length=5)
    with pytest.raises(ValueError, match="6 tokens are more than the text tower's context length 5"):
        text(torch.zeros(1, 6, dtype=torch.long), torch.zeros(1, dtype=torch.long))


def test_quick_gelu_and_its_gradient_are_the_formula_s():
    x = torch.linspace(-4, 4, 21, dtype=torch.double, requires_grad=True)
    expected = x * torch.sigmoid(1.702 * x)
    found = QuickGELU()(x)
    torch.testing.assert_close(found, expected)
    own, wanted = (torch.autograd.grad(y, x, torch.ones_like(y), retain_graph=True)[0] for y in (found, expected))
    torch.testing.assert_close(own, wanted)
    torch.testing.assert_close(QuickGELU()(x.detach()), expected.detach())
