"""The fusion encoder against a composition of single products in float64, written down anew."""

import math

import pytest
import torch
import torch.nn.functional as F

from mlvl_fairseq.modules import length_groups, packing
from mlvl_fairseq.modules.fusion import FusionEncoder
from mlvl_fairseq.modules.towers.bert import BertTower
from mlvl_fairseq.modules.towers.cclm_text import CclmTextConfig

WIDTH, HEADS, LAYERS = 12, 3, 3
CONFIG = CclmTextConfig(30, WIDTH, LAYERS, HEADS, 20, 11, dropout=0.0, attention_dropout=0.0)
MASK = torch.arange(5) <= torch.tensor([4, 1, 3])[:, None]  # of three texts
LOOKED_AT = torch.tensor([[1, 0, 1, 1], [1, 1, 1, 1], [1, 0, 0, 0]], dtype=torch.bool)  # of three views


def random_parameters(module):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module.double()


@pytest.fixture(params=[WIDTH, 7], ids=["shared-maps", "own-maps"])
def image_width(request):
    return request.param


@pytest.fixture
def encoder(image_width):
    return random_parameters(FusionEncoder(CONFIG, LAYERS, image_width))


@pytest.fixture(params=["each length", "one group", "padded"])
def way(request, monkeypatch):
    """How a CPU takes texts of several lengths, in groups of attention; and how a GPU does."""
    if request.param == "padded":
        monkeypatch.setattr(packing, "GROUPED", ())
    else:
        monkeypatch.setattr(length_groups, "CALL", 0.0 if request.param == "each length" else 1e12)
    return request.param


def states(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def linear(weights, name, x):
    return x @ weights[f"{name}.weight"].t() + weights[f"{name}.bias"]


def norm(weights, name, x):
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def attention(weights, name, x, y, seen, maps=("key", "value")):
    """One text [T, width] looks at the seen ones of [N, width], head by head."""
    query = linear(weights, f"{name}.self.query", x)
    key, value = (linear(weights, f"{name}.self.{one}", y[seen]) for one in maps)
    size, mixed = WIDTH // HEADS, []
    for head in range(HEADS):
        own = slice(head * size, (head + 1) * size)
        scores = query[:, own] @ key[:, own].t() / math.sqrt(size)
        mixed.append(scores.softmax(1) @ value[:, own])
    out = linear(weights, f"{name}.output.dense", torch.cat(mixed, 1))
    return norm(weights, f"{name}.output.LayerNorm", out + x)


def plain(encoder, x, mask, view, looked_at, image):
    """One text beside one view (None: by itself)."""
    weights = dict(encoder.named_parameters())
    maps = ("image_key", "image_value") if image and "layer.0.crossattention.self.image_key.weight" in weights else ()
    for number in range(LAYERS):
        name = f"layer.{number}"
        x = attention(weights, f"{name}.attention", x, x, mask)
        if view is not None:
            x = attention(weights, f"{name}.crossattention", x, view, looked_at, maps or ("key", "value"))
        inner = F.gelu(linear(weights, f"{name}.intermediate.dense", x))
        x = norm(weights, f"{name}.output.LayerNorm", linear(weights, f"{name}.output.dense", inner) + x)
    return x


@pytest.mark.parametrize("kind", ["images", "texts", "regions", "none"])
def test_states_and_gradients_are_those_of_the_plain_composition(encoder, image_width, kind, way):
    image = kind in ("images", "regions")
    text, view = states(3, 5, WIDTH), states(3, 4, image_width if image else WIDTH)
    looked_at = None if kind in ("images", "none") else LOOKED_AT
    rows, of_view = torch.tensor([0, 1, 2, 2]), torch.tensor([1, 1, 0, 2])
    every = torch.ones(4, dtype=torch.bool)
    expected = torch.stack([
        plain(encoder, text[row], MASK[row], None if kind == "none" else view[own],
              every if looked_at is None else looked_at[own], image)
        for row, own in zip(rows, of_view)
    ])  # fmt: skip
    views = None if kind == "none" else encoder.keys_values(view, looked_at, image)
    found = encoder(text[rows], MASK[rows], views, of_view=of_view)
    real = MASK[rows]
    torch.testing.assert_close(found[real], expected[real])
    at = torch.tensor([[0, 2], [1, 0], [3, 3], [0, 1]])
    picked = found.gather(1, at.unsqueeze(-1).expand(-1, -1, WIDTH))
    fast = encoder(text[rows], MASK[rows], views and views[of_view], at)
    torch.testing.assert_close(fast, picked)
    weights = list(encoder.parameters())
    wanted = expected.gather(1, at.unsqueeze(-1).expand(-1, -1, WIDTH))
    gradients = [torch.autograd.grad(out.square().sum(), weights, allow_unused=True) for out in (fast, wanted)]
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)


def test_padding_and_what_is_not_looked_at_make_no_difference(encoder, image_width, way):
    text, view = states(3, 5, WIDTH), states(3, 4, image_width)

    def at_first(text, view):
        return encoder(text, MASK, encoder.keys_values(view, LOOKED_AT, True), torch.zeros(3, 1, dtype=torch.long))

    other_text, other_view = text + 9 * ~MASK.unsqueeze(-1), view + 9 * ~LOOKED_AT.unsqueeze(-1)
    torch.testing.assert_close(at_first(text, view), at_first(other_text, other_view))
    text[2, 3] += 1
    view[0, 3] += 1
    changed = (at_first(text, view) - at_first(other_text, other_view)).abs().amax((1, 2))
    assert changed[0] > 1e-3 and changed[1] < 1e-9 and changed[2] > 1e-3


def test_several_positions_of_texts_of_one_token(encoder, image_width, way):
    text, mask = states(2, 3, WIDTH), torch.tensor([[True, False, False]] * 2)
    view = states(2, 4, image_width)
    every = torch.ones(4, dtype=torch.bool)
    found = encoder(text, mask, encoder.keys_values(view, image=True), torch.zeros(2, 2, dtype=torch.long))
    for row in range(2):
        expected = plain(encoder, text[row], mask[row], view[row], every, True)[0]
        torch.testing.assert_close(found[row], expected.expand(2, -1))


def test_weights_of_cross_attention_drop_out(encoder, image_width, way):
    for layer in encoder.layer:
        layer.crossattention.self.dropout = 0.5
    text, views = states(3, 5, WIDTH), encoder.keys_values(states(3, 4, image_width), LOOKED_AT, True)
    assert not torch.equal(*(encoder.train()(text, MASK, views)[MASK] for _ in range(2)))
    assert torch.equal(*(encoder.eval()(text, MASK, views)[MASK] for _ in range(2)))


def test_what_is_packed(monkeypatch):
    assert packing.Packing.of_padded(MASK, WIDTH) is not None
    assert packing.Packing.of_padded(torch.ones_like(MASK), WIDTH) is None
    assert packing.Packing.of_padded(MASK.to("meta"), WIDTH) is None
    monkeypatch.setattr(packing, "is_exported", lambda: True)
    assert packing.Packing.of_padded(MASK, WIDTH) is None


def test_a_text_encoder_goes_on_in_the_fusion_encoder():
    """Texts read by themselves go through it as through further layers of the text encoder."""
    whole = random_parameters(BertTower(CclmTextConfig(**{**vars(CONFIG), "layers": 5})))
    lower, upper = BertTower(CclmTextConfig(**{**vars(CONFIG), "layers": 2})).double(), FusionEncoder(CONFIG, 3, WIDTH)
    lower.load_state_dict(whole.state_dict(), strict=False)
    of_layers = {f"layer.{int(n.split('.')[2]) - 2}.{n.split('.', 3)[3]}": t for n, t in whole.state_dict().items()
                 if n.startswith("encoder.layer.")}  # fmt: skip
    upper.double().load_state_dict(of_layers, strict=False)
    whole.keeps_states = lower.keeps_states = True
    tokens, last = torch.randint(30, (3, 5), generator=torch.Generator().manual_seed(0)), MASK.sum(1) - 1
    read = lower(tokens, last)
    found = upper(read.states, read.mask, None)
    torch.testing.assert_close(found[MASK], whole(tokens, last).states[MASK], rtol=0, atol=1e-12)


def test_keys_and_values_of_the_first_views():
    encoder = FusionEncoder(CONFIG, 1, WIDTH)
    views = encoder.keys_values(states(3, 4, WIDTH).float(), LOOKED_AT)
    first, expected = views.first(2), views[torch.arange(2)]
    for (key, value), (own_key, own_value) in zip(first.layers, expected.layers, strict=True):
        assert torch.equal(key, own_key) and torch.equal(value, own_value)
        assert key.data_ptr() == views.layers[0][0].data_ptr()
    assert torch.equal(first.mask, LOOKED_AT[:2])
    assert encoder.keys_values(states(3, 4, WIDTH).float()).first(2).mask is None


@pytest.mark.parametrize("kept", [True, False])
def test_the_one_token_type_and_positions_from_the_first_row(kept):
    """Word, position and type, counted from row 0 also where padding is before: as published."""
    config = CclmTextConfig(30, WIDTH, 1, HEADS, token_types="keep" if kept else "fold")
    embeddings = random_parameters(BertTower(config)).embeddings
    weights, tokens = dict(embeddings.named_parameters()), torch.tensor([[0, 7, 1, 2]])
    assert ("token_type_embeddings.weight" in weights) == kept
    x = weights["word_embeddings.weight"][tokens[0]] + weights["position_embeddings.weight"][:4]
    x = x + weights["token_type_embeddings.weight"][0] if kept else x
    torch.testing.assert_close(embeddings.eval()(tokens)[0], norm(weights, "LayerNorm", x))
