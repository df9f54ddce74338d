"""How a batch of pairs goes through a CCLM: against one pair at a time, in chunks, with other towers and heads."""

from unittest.mock import patch

import pytest
import torch
from host_syncs import Watch

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules import hard_negatives, length_groups, packing
from mlvl_fairseq.modules.towers.cclm_text import CclmTextConfig
from mlvl_fairseq.modules.towers.clip_text_tower import ClipTextTowerConfig
from mlvl_fairseq.modules.towers.clip_vit import ClipViTConfig
from mlvl_fairseq.modules.towers.features import FeatureGridConfig, FeaturesConfig
from mlvl_fairseq.modules.towers.swin import SwinConfig
from mlvl_fairseq.modules.towers.vit import ViTConfig
from mlvl_fairseq.networks.cclm import CclmNetwork

TEXT = CclmTextConfig(40, 12, 2, 3, max_positions=9, dropout=0.0, attention_dropout=0.0)
VIT = {"image_size": 16, "patch_size": 8, "layers": 2}
IMAGES = {
    "swin": SwinConfig(image_size=16, width=6, layers=(1, 1), heads=(1, 2), window=2),  # of the text's width
    "vit": ViTConfig(**VIT, width=8, heads=2, local_layers=1),
    "clip": ClipViTConfig(**VIT, width=8, heads=2, local_layers=1),
    "grid": FeatureGridConfig(4, 5),
    "features": FeaturesConfig(5),
}
STREAMS = ["image", "text", "region"]
B = 5


@pytest.fixture
def new_network():
    """``new_network("swin", **options)``, whose parameters are random, biases too."""

    def build(image="swin", fusion_layers=2, **options):
        torch.manual_seed(2)
        network = CclmNetwork(IMAGES[image].build(), TEXT.build(), 6, fusion_layers, **options).double()
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name != "temp":
                    parameter.add_(0.2 * torch.randn_like(parameter))
        return network.train()

    return build


@pytest.fixture(autouse=True)
def rotated(monkeypatch):
    """Draws are the next row that may be drawn: they do not depend on rounding."""

    def draw(weights, generator):
        place = torch.arange(weights.shape[1])
        ahead = (place - torch.arange(len(weights))[:, None]) % weights.shape[1]
        return torch.where(weights > 0, ahead, 99).argmin(1)

    monkeypatch.setattr(hard_negatives, "draw", draw)


def randoms(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def texts(seed, width):
    generator = torch.Generator().manual_seed(seed)
    last = torch.randint(2, width, (B,), generator=generator)
    last[seed % B] = width - 1
    return torch.randint(4, 40, (B, width), generator=generator), last


def pictures(image, count=B):
    return randoms(count, *{"grid": (4, 5), "features": (5,)}.get(image, (3, 16, 16)))


def batch(stream, image="swin", **more):
    tokens, last = texts(1, 7)
    found = {"tokens": tokens, "eos_positions": last, "images": None, "ids": torch.tensor([1, 2, 3, 2, 4])}
    masked = tokens
    if stream == "text":
        found["view_tokens"], found["view_eos_positions"] = texts(2, 6)
        masked = found["view_tokens"]
    elif stream == "region":
        found.update(images=pictures(image, 2), image_of=torch.tensor([0, 0, 1, 0, 1]))
        found["patches"] = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1], [0, 1, 1, 0], [1, 0, 1, 0]]).bool()
    else:
        found["images"] = pictures(image)
        found["second_tokens"], found["second_eos_positions"] = texts(3, 5)
    found["masked_tokens"] = masked.clone().index_fill_(1, torch.tensor([1]), 3)
    found["masked_positions"] = torch.tensor([[1, 0], [1, 2], [2, 1], [0, 0], [1, 0]])
    return {**found, **more}


@pytest.mark.parametrize("chunk", [0, 2])
@pytest.mark.parametrize("of_both", [False, True])
@pytest.mark.parametrize("stream", STREAMS)
def test_lengths_that_are_known_are_not_asked_of_the_device(stream, of_both, chunk, new_network):
    network, inputs = new_network(), batch(stream)
    network.encode_chunk = chunk
    if of_both:
        inputs["masked_eos_positions"] = torch.full((B,), inputs["masked_tokens"].shape[1] - 1)
    ends = {"masked_eos_positions": inputs["view_eos_positions" if stream == "text" else "eos_positions"], **inputs}
    known = {name.replace("eos_positions", "lengths"): 1 + ends[name].numpy() for name in ends if "eos" in name}
    with Watch().watching() as watch:
        found = network(**inputs, **known)
    assert not watch.found
    with patch.object(packing, "GROUPED", ()):
        torch.testing.assert_close(found, network(**inputs), rtol=0, atol=0)


def one_by_one(network, inputs):
    """What :meth:`CclmNetwork.pretrain` gives, a pair at a time and all positions of it."""

    def text(name, row):
        tokens, last = (inputs[key][row : row + 1] for key in (f"{name}tokens", f"{name}eos_positions"))
        return network.encode_text(tokens[:, : last[0] + 1], last)

    def view(row):
        if "view_tokens" in inputs:
            return text("view_", row)
        if "image_of" in inputs:
            of, patches = inputs["image_of"][row : row + 1], inputs["patches"][row : row + 1]
            return network.encode_regions(inputs["images"], of, patches)[0]
        return network.encode_image(inputs["images"][row : row + 1])

    def read(text, view, is_image):
        keys = network.fusion.keys_values(view.states, view.mask, is_image)
        return network.fusion(text.states, text.mask, keys)

    of_images = "view_tokens" not in inputs
    own, views = [text("", row) for row in range(B)], [view(row) for row in range(B)]
    negative = [1, 2, 3, 4, 0]  # the next row, and of rows 1 and 3, which are of one thing, the next but one
    pairs = [(row, row) for row in range(B)] + [(row, negative[row]) for row in range(B)]
    pairs += [(negative[row], row) for row in range(B)]
    matching = [network.itm_head(read(own[t], views[v], of_images)[:, 0]) for t, v in pairs]
    masked = []
    for row, positions in enumerate(inputs["masked_positions"]):
        name, last = ("view_eos_positions", own[row]) if not of_images else ("eos_positions", None)
        end = inputs[name][row : row + 1]
        given = network.encode_text(inputs["masked_tokens"][row : row + 1, : end[0] + 1], end)
        states = read(given, last or views[row], of_images)
        masked.append(states[0, positions])
    found = {"text": torch.cat([one.vector for one in own]), "image": torch.cat([one.vector for one in views])}
    found.update(matching=torch.cat(matching), masked=torch.stack(masked))
    if "image_of" in inputs:
        whole = network.encode_image(inputs["images"])
        seen = [network.image_keys_values(whole)[inputs["image_of"][row : row + 1]] for row in range(B)]
        states = [network.fusion(own[row].states, own[row].mask, seen[row])[:, 0] for row in range(B)]
        found["boxes"] = torch.cat([network.bbox_head(state).sigmoid() for state in states])
    if "second_tokens" in inputs:
        found["second"] = torch.cat([text("second_", row).vector for row in range(B)])
    return found


def gradients(network, found):
    """Of a sum that depends on each number differently."""
    total = sum((found[name] * randoms(*found[name].shape)).sum() for name in sorted(found) if name != "drawn")
    return torch.autograd.grad(total, [p for p in network.parameters() if p.requires_grad], allow_unused=True)


def assert_alike(network, found, expected, **tolerance):
    assert found.keys() - {"drawn"} == expected.keys() - {"drawn"}
    for name in expected:
        told = {"msg": lambda error, name=name: f"{name}: {error}"}
        torch.testing.assert_close(found[name], expected[name], **tolerance, **told)
    for one, other in zip(gradients(network, found), gradients(network, expected), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, **tolerance)


@pytest.mark.parametrize(
    "stream, image",
    [*((stream, image) for stream in STREAMS for image in ("swin", "vit", "grid")), ("region", "clip"),
     ("image", "features")],
)  # fmt: skip
def test_a_batch_is_what_its_pairs_are_one_by_one(new_network, stream, image):
    network, inputs = new_network(image), batch(stream, image)
    found = network(**inputs)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if image == "clip" else {}  # which normalises in float32
    assert_alike(network, found, one_by_one(network, inputs), **tolerance)
    assert found["drawn"].tolist() == [True] * 15


@pytest.mark.parametrize("stream", STREAMS)
def test_no_padding_is_fused(new_network, stream, monkeypatch):
    monkeypatch.setattr(length_groups, "CALL", 0.0)  # a group for each length
    network, inputs, rows = new_network(), batch(stream), []
    layers = network.fusion.layer
    for layer in (layers[0], layers[-1]):
        layer.crossattention.self.query.register_forward_hook(lambda _, given, __: rows.append(given[0].shape[:-1]))
    found = network(**inputs)
    lengths = (inputs["eos_positions"] + 1).tolist()
    assert len(set(lengths)) > 2
    first, last = (3 * sum(lengths),), (3 * B, 1)  # each text in three pairs, of which the first position is read
    assert [tuple(shape) for shape in rows[:2]] == [first, last]
    assert_alike(network, found, one_by_one(network, inputs))


@pytest.mark.parametrize("stream", STREAMS)
def test_chunks_make_no_difference(new_network, stream, monkeypatch):
    network, rows = new_network(), []
    expected = network(**batch(stream))
    network.encode_chunk = 2
    hook = network.fusion.register_forward_hook(lambda _, given, __: rows.append(len(given[0])))
    found = network(**batch(stream))
    hook.remove()
    assert max(rows) == 2 and sum(rows) == (25 if stream == "region" else 20)
    assert_alike(network, found, expected)
    network.encode_chunk = 0


def test_pairs_of_one_thing_are_not_drawn(new_network):
    network = new_network()
    found = network(**batch("image", ids=torch.tensor([6, 6, 6, 6, 6])))
    assert found["drawn"].tolist() == [True] * 5 + [False] * 10
    alone = {name: value[:1] for name, value in batch("image").items()}
    assert network(**alone)["drawn"].tolist() == [True, False, False]


def test_what_needs_a_head_that_is_not_there_is_left_out(new_network):
    names = {"text", "image"}
    outputs = {"matching": {"matching", "drawn"}, "masked_lm": {"masked"}, "boxes": {"boxes"}, "": set()}
    attributes = {"matching": "itm_head", "masked_lm": "lm_head", "boxes": "bbox_head"}
    expected = new_network()(**batch("region"))
    for head, own in outputs.items():
        network = new_network(heads=head)
        assert {name for name, attribute in attributes.items() if getattr(network, attribute)} == set(
            filter(None, [head])
        )
        assert network(**batch("region")).keys() == names | own
        assert (network.match is None) == (head != "matching")
    network = new_network()
    network.load_state_dict(new_network(heads=" matching,boxes ").state_dict(), strict=False)
    assert expected.keys() == names.union(*outputs.values())
    found = network(**batch("region", masked_tokens=None, masked_positions=None))
    assert found.keys() == expected.keys() - {"masked"}


@pytest.mark.parametrize("stream", STREAMS)
def test_masked_words_are_read_the_same_without_other_heads(new_network, stream):
    network, alone = new_network(), new_network(heads="masked_lm")
    shared = {name: tensor for name, tensor in network.state_dict().items() if "_head." not in name}
    alone.load_state_dict(shared, strict=False)
    torch.testing.assert_close(alone(**batch(stream))["masked"], network(**batch(stream))["masked"])


def test_images_projected_as_texts(new_network):
    network = new_network(one_projection=True)
    assert network.vision_proj is network.text_proj
    images = network.encode_image(pictures("swin"))
    torch.testing.assert_close(images.vector, network.text_proj(images.states[:, 0]))
    with pytest.raises(UserError, match="--one-projection needs towers of one width: 8 and 12 are not"):
        new_network("vit", one_projection=True)


def test_without_pairs_it_is_a_dual_encoder(new_network):
    network, inputs = new_network(), batch("image")
    network.temp.data.fill_(0.7)
    found = network(inputs["tokens"], inputs["eos_positions"], inputs["images"])
    assert found.keys() == {"text", "image"} and float(network.temp.detach()) == 0.5
    torch.testing.assert_close(found["image"], network(**inputs)["image"])
    vectors = network.visual_encoder(inputs["images"]).vector  # of a frozen tower, computed once
    torch.testing.assert_close(network.encode_image(vectors).vector, found["image"])
    network.temp.data.fill_(0.7)
    network(**inputs)
    assert float(network.temp.detach()) == 0.5


def with_images(inputs, dtype):
    return {**inputs, "images": None if inputs["images"] is None else inputs["images"].to(dtype)}


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("stream", STREAMS)
def test_half_precision_is_close(new_network, stream, half):
    network, inputs = new_network(), batch(stream)
    expected = network(**inputs)
    network.float()
    inputs = {
        name: value.float() if name == "images" and value is not None else value for name, value in inputs.items()
    }
    with torch.autocast("cpu", half):
        found = network(**inputs)
    for name in expected.keys() - {"drawn"}:
        error = (found[name].double() - expected[name]).norm() / expected[name].norm()
        assert error < (0.1 if half == torch.bfloat16 else 0.02), name
    gradients(network.double(), {name: value.double() for name, value in expected.items()})
    network.to(half)
    inputs = {
        name: value.to(half) if name == "images" and value is not None else value for name, value in inputs.items()
    }
    found = network(**inputs)
    assert all(value.dtype in (half, torch.bool) and value.isfinite().all() for value in found.values())


def test_given_features_are_taken_in_any_precision(new_network):
    network = new_network("grid")
    found = network(**batch("image", "grid", images=pictures("grid").half()))
    assert found["matching"].dtype == torch.float64
    found = network(**batch("region", "grid", images=pictures("grid", 2).half()))
    assert found["boxes"].dtype == torch.float64


@pytest.mark.parametrize(
    "options, message",
    [
        ({"heads": "matching,box"}, "--heads matching,box: there is no 'box', there are matching, masked_lm, boxes"),
        ({"fusion_layers": 0}, "--fusion-layers 0: a CCLM has one at least"),
    ],
)
def test_options_that_cannot_be(new_network, options, message):
    with pytest.raises(UserError, match=message):
        new_network(**options)


def test_only_a_bert_goes_on_in_a_fusion_encoder():
    text = ClipTextTowerConfig(40, 12, 1, 2, 9).build()
    with pytest.raises(UserError, match="a fusion encoder goes on where a BERT ends, and a ClipTextTower is none"):
        CclmNetwork(IMAGES["swin"].build(), text, 6, 1)
