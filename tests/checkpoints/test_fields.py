"""Whatever a checkpoint holds in a field, it is read or refused in one line that names the file."""

import os

import pytest
import torch

from mlvl_fairseq.checkpoints.clip import read_clip
from mlvl_fairseq.checkpoints.formats.mclip import read_mclip
from mlvl_fairseq.checkpoints.formats.mte import read_mte
from mlvl_fairseq.checkpoints.formats.trikd import read_trikd
from mlvl_fairseq.checkpoints.formats.xlmr import read_xlmr
from mlvl_fairseq.checkpoints.source import WeightSource, format_of
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.fairseq_patches import import_clip
from mlvl_fairseq.inference import Encoder
from mlvl_fairseq.modules.heads import HeadConfig
from mlvl_fairseq.modules.sentence_map import SentenceMap
from mlvl_fairseq.modules.towers.xlmr import XlmrConfig
from mlvl_fairseq.modules.x_projector import CProjector, XProjector

SHA = torch.zeros(32, dtype=torch.uint8)
# What stands in the place of any field.
WRONG = [
    None, True, -1, 0, 2**40, 10**30, 1.5, float("nan"), "", "text", b"bytes", [], [1], ["a", None], {}, {"a": 1},
    {1: 2}, (), torch.zeros(0), torch.zeros(1), torch.full((2, 3), torch.nan), torch.zeros(2, 2, 2),
    torch.zeros(3).cfloat(),
]  # fmt: skip


def named(prefix, tensors):
    return {prefix + name: tensor for name, tensor in tensors.items()}


def trained_clip(vocab_size=60):
    clip = import_clip().model.CLIP(32, 16, 1, 64, 8, 10, vocab_size, 64, 1, 1).state_dict()
    scale = clip.pop("logit_scale")
    text = {name: tensor for name, tensor in clip.items() if not name.startswith("visual.")}
    model = {
        **named("text.", text),
        **named("vision.", HeadConfig(4, 8, 32).build().state_dict()),
        "logit_scale": scale,
    }
    model["text.token_embedding.idle_decay_bits"] = torch.tensor([1.0], dtype=torch.float64).view(torch.int64)
    model["text.token_embedding.trained_rows"] = torch.tensor([3, 5])
    options = {"text_heads": 1, "vision_heads": 1, "image_tower": "features", "adapter": "none", "init_from": None}
    task_state = {"languages": ["en", "de"], "vocabulary": {"tokens": [], "merges": []}}
    return {"model": model, "cfg": {"model": options, "task": {}}, "task_state": task_state}


def trikd():
    projectors = {
        **named("x_projector.", XProjector(16, 32, 2, 1).state_dict()),
        **named("c_projector.", CProjector(8, 16).state_dict()),
        "logit_scale": torch.tensor(2.0),
        "mte_fingerprint": SHA,
        "clip_fingerprint": SHA,
    }
    options = {"encoder_attention_heads": 2, "mte": "m.pt", "clip": "c.pt"}
    task = {"sentencepiece": "folder", "max_length": 20}
    return {"model": projectors, "cfg": {"model": options, "task": task}, "task_state": {"sentencepiece": "0" * 64}}


def m2m():
    content = trikd()
    projectors = {name: one for name, one in content["model"].items() if "projector" not in name}
    layers = named("x_projector.", SentenceMap(16, 8, 2).state_dict())
    content["cfg"]["model"] = {"sentence": "mean", "mte": "m.pt", "clip": "c.pt"}
    return {**content, "model": {**layers, **projectors}}


def xlmr():
    tensors = (
        XlmrConfig(vocab_size=35, layers=1, width=16, ffn_width=24, heads=4, max_positions=20).build().state_dict()
    )
    options = {"encoder_attention_heads": 4, "dropout": 0.1, "attention_dropout": 0.1, "xlmr": None}
    return {"model": named("encoder.sentence_encoder.", tensors), "cfg": {"model": options}, "args": None}


def mte():
    content = xlmr()
    content["model"]["frozen_fingerprint"] = SHA
    return {**content, "task_state": {"languages": ["en", "de"]}}


def mclip():
    layers = named("encoder.x_projector.", {"0.fc1.weight": torch.zeros(4, 4)})
    return {
        "model": {"encoder.c_projector.weight": torch.zeros(64, 8), **layers},
        "criterion": {"logit_scale": torch.zeros(1)},
        "cfg": {"model": {"encoder_attention_heads": 1}},
    }


KINDS = {
    "clip": (trained_clip, read_clip),
    "trikd": (trikd, lambda path: (read_trikd(path).x_projector(), read_trikd(path).c_projector())),
    "m2m": (m2m, lambda path: read_trikd(path, "m2m").x_projector()),
    "xlmr": (xlmr, lambda path: read_xlmr(path).encoder()),
    "mte": (mte, lambda path: read_mte(path, ["en", "de"], SHA)),
    "mclip": (mclip, read_mclip),
}


@pytest.mark.parametrize(
    "heads, tensor, message",
    [
        (3, None, "width 16 is not a multiple of the number of attention heads 3"),
        (2, "x_projector.layers.0.fc1.bias", 'Missing key.* in state_dict: "layers.0.fc1.bias"'),
    ],
)
def test_projectors_that_do_not_fit_together_are_told_in_one_line(tmp_path, heads, tensor, message):
    content = trikd()
    content["cfg"]["model"]["encoder_attention_heads"] = heads
    content["model"].pop(tensor, None)
    torch.save(content, tmp_path / "trikd.pt")
    with pytest.raises(UserError, match=f"trikd.pt: its projectors do not fit together: {message}[^\\n]*$"):
        read_trikd(tmp_path / "trikd.pt").x_projector()


def places(value, place=()):
    """Every field, and the fields in it."""
    if place:
        yield place
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield from places(inner, (*place, key))


def changed(content, place, value):
    """The content with another value at a place."""
    copy = dict(content)
    copy[place[0]] = value if len(place) == 1 else changed(content[place[0]], place[1:], value)
    return copy


@pytest.mark.parametrize("kind", KINDS)
def test_any_value_in_any_field(kind, tmp_path):
    make, read = KINDS[kind]
    content, path = make(), tmp_path / "c.pt"
    torch.save(content, path)
    read(path)
    refused = 0
    tensors = [place for place in places(content) if place[0] == "model" and len(place) > 1]
    others = [place for place in places(content) if place not in tensors]
    cases = [(place, value) for place in others for value in WRONG]
    cases += [(place, WRONG[(3 * i + j) % len(WRONG)]) for i, place in enumerate(tensors) for j in range(3)]
    for place, value in cases:
        torch.save(changed(content, place, value), path)
        try:
            read(path)
        except UserError as error:
            refused += 1
            assert "c.pt" in str(error) and "\n" not in str(error) and len(str(error)) < 600, (place, value, error)
        except Exception as error:
            raise AssertionError(f"{kind} {place} = {value!r}") from error
    assert refused > len(cases) / 3


@pytest.mark.parametrize(
    "place, value, message",
    [
        (("task_state", "vocabulary"), {"tokens": ["a", "new"], "merges": []}, "holds a token twice"),
        (("task_state", "vocabulary"), {"tokens": ["xq"], "merges": ["x zq"]}, "is no merge of two tokens"),
        (("task_state", "vocabulary"), {"tokens": ["xq"], "merges": ["x", "q"]}, "merges.0.': expected str matching"),
        (("task_state", "vocabulary"), {"tokens": ["xq"], "merges": []}, "for a vocabulary of 49409"),
        (("model", "vision.c_fc.weight"), torch.zeros(8), "has a head on image features without"),
        (("model", "vision.c_fc.bias"), torch.zeros(7), "field 'c_fc.bias': tensor has shape"),
        (("model", "vision.more"), torch.zeros(7), "field 'more': unknown tensor; a FeatureHead has none"),
    ],
)  # fmt: skip
def test_vocabularies_and_heads_that_do_not_fit(tmp_path, place, value, message):
    torch.save(changed(trained_clip(49408), place, value), tmp_path / "c.pt")
    with pytest.raises(UserError, match=f"c.pt.*{message}"):
        Encoder.load(tmp_path / "c.pt")


def test_names_that_are_no_text(tmp_path):
    for kind, (make, read) in KINDS.items():
        content, path = make(), tmp_path / "c.pt"
        content["model"][3] = torch.zeros(1)
        torch.save(content, path)
        with pytest.raises(UserError, match="c.pt.*has a key that is no text"):
            read(path)


def test_checkpoints_that_stand_behind_each_other(tmp_path):
    content = trained_clip()
    del content["model"]["text.ln_final.bias"]
    for name, origin in (("a.pt", "b.pt"), ("b.pt", "c.pt"), ("c.pt", "a.pt"), ("self.pt", "self.pt")):
        torch.save(changed(content, ("cfg", "model", "init_from"), str(tmp_path / origin)), tmp_path / name)
    with pytest.raises(UserError, match=r"a.pt: stands behind its own .*a.pt -> .*b.pt -> .*c.pt -> .*a.pt"):
        read_clip(tmp_path / "a.pt")
    with pytest.raises(UserError, match="self.pt: stands behind its own"):
        read_clip(tmp_path / "self.pt")
    frozen = mte()
    for name, origin in (("m.pt", "n.pt"), ("n.pt", "m.pt")):
        torch.save(changed(frozen, ("cfg", "model", "xlmr"), str(tmp_path / origin)), tmp_path / name)
    with pytest.raises(UserError, match="m.pt: stands behind its own frozen weights"):
        read_xlmr(tmp_path / "m.pt")


def test_dimensions_no_tower_has(tmp_path):
    clip = {**import_clip().model.CLIP(32, 16, 1, 64, 8, 10, 60, 64, 1, 1).state_dict(), "vocab_size": torch.tensor(60)}
    for name, tensor in {
        "visual.conv1.weight": torch.zeros(64, 3, 0, 0),
        "token_embedding.weight": torch.zeros(60, 0),
        "visual.positional_embedding": torch.zeros(0, 64),
        "logit_scale": torch.zeros(2),
        "positional_embedding": torch.tensor(1.0),
    }.items():
        torch.save({**clip, name: tensor}, tmp_path / "c.pt")
        with pytest.raises(UserError, match="c.pt field '"):
            read_clip(tmp_path / "c.pt")
    many = {f"transformer.resblocks.{layer}.x": torch.zeros(0) for layer in range(5000)}
    torch.save({**clip, **many}, tmp_path / "c.pt")
    with pytest.raises(UserError, match="c.pt: names 5,000 layers"):
        read_clip(tmp_path / "c.pt")


def test_what_is_no_file_is_refused_unopened(tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(UserError, match="pipe.pt: is a pipe, not a regular file"):
        format_of(WeightSource(tmp_path / "pipe.pt"))
    with pytest.raises(UserError, match="/dev/zero: is a device"):
        WeightSource("/dev/zero")
