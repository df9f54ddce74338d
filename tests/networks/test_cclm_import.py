"""Checkpoints with the names of CCLM's published code become ours, weight by weight."""

import pickle
import re
from types import SimpleNamespace

import pytest
import torch
from golden_cclm import arrays, our_name, published_weights
from torch.nn.functional import normalize

from mlvl_fairseq.checkpoints.check import without_values
from mlvl_fairseq.checkpoints.formats.cclm import read_cclm
from mlvl_fairseq.cli.convert import cli_main
from mlvl_fairseq.data.text.sentencepiece import train_sentencepiece
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.inference import Encoder
from mlvl_fairseq.modules.towers.bert import BertConfig
from mlvl_fairseq.modules.towers.cclm_text import CclmTextConfig
from mlvl_fairseq.networks.cclm import CclmNetwork
from mlvl_fairseq.networks.cclm_import import configs_of, convert_cclm, options_of

VOCABULARY, HEADS = 120, 4
SAID = {"image_res": 64, "embed_dim": 16, "max_tokens": 40, "train_file": ["cc"], "optimizer": {"lr": 1e-4}}
RETRIEVAL = ("text_encoder.cls.", "bbox_head.")  # what a fine-tuned retrieval model has not
# Of the published code: features of the first pair, logits of all four.
IMAGE = [
    -0.005084, -0.3065099, 0.1995662, 0.05434371, 0.29042113, -0.28703654, -0.26369774, 0.15184999, -0.0966289,
    -0.1798446, 0.21634857, -0.22262564, 0.11493174, 0.472961, -0.072041, -0.47304893,
]  # fmt: skip
TEXT = [
    -0.10545402, -0.3111969, 0.5260187, 0.06937575, -0.29322731, -0.33016524, -0.06276606, 0.17189787, 0.06463245,
    -0.27717435, 0.07202716, -0.17968084, -0.34161404, 0.11105139, 0.0626034, -0.36141345,
]  # fmt: skip
MATCHING = [[-0.10834314, 0.684273], [-0.1530889, 0.7583793], [-0.11835184, 0.663978], [-0.08109412, 0.6694414]]
BASE = {"pretraining": 525_677_393, "retrieval": 522_264_251}  # parameters of the published models


def buffers(tensors):
    """What published files have beside parameters, and second names of tied tensors."""
    found = {"text_encoder.bert.embeddings.position_ids": torch.arange(70)[None]}
    for stage, side in enumerate((16, 8, 4, 2)):
        for block in range(2):
            name = f"vision_encoder.layers.{stage}.blocks.{block}."
            found[f"{name}attn.relative_position_index"] = torch.zeros(4, 4, dtype=torch.int64)
            if block and side > 2:
                found[f"{name}attn_mask"] = torch.zeros((side // 2) ** 2, 4, 4)
    words, bias = "text_encoder.bert.embeddings.word_embeddings.weight", "text_encoder.cls.predictions.bias"
    for name, of in (("weight", words), ("bias", bias)):
        found[f"text_encoder.cls.predictions.decoder.{name}"] = tensors[of].clone()
    return found


def released(kind="pretraining"):
    """A state dict of 412 tensors as the published code saves it, or that of a fine-tuned model."""
    tensors = published_weights()
    tensors.update(buffers(tensors))
    if kind == "pretraining":
        return tensors
    own = {name: one for name, one in tensors.items() if not name.startswith(RETRIEVAL)}
    return {name.replace("text_encoder.bert.", "text_encoder."): one for name, one in own.items()}


def save(path, tensors, config=SAID):
    torch.save({"model": tensors, "config": config}, path)
    return path


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory):
    """A tokenizer of as many tokens as the small text encoder has."""
    folder = tmp_path_factory.mktemp("spm")
    syllables = [first + second for first in "bcdfghklmnprstvwz" for second in "aeiou"]
    words = [syllables[i % 85] + syllables[i * 7 % 83] + "lmnrs"[i % 5] for i in range(400)]
    (folder / "text").write_text("\n".join(words), encoding="utf-8")
    train_sentencepiece([folder / "text"], folder, VOCABULARY - 2)
    return folder


@pytest.fixture(scope="module")
def converted(sentencepiece, tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted")
    found = {}
    for kind in BASE:
        file = save(folder / f"{kind}.th", released(kind))
        found[kind] = convert_cclm(file, folder / kind, sentencepiece, text_heads=HEADS)
    return found


@pytest.mark.parametrize("kind", BASE)
def test_every_weight_arrives(converted, kind):
    network = Encoder.load(converted[kind]).network
    state, given = network.state_dict(), published_weights()
    if kind == "retrieval":
        given = {name: one for name, one in given.items() if not name.startswith(RETRIEVAL)}
    assert len(released(kind)) == (412 if kind == "pretraining" else 399)
    indices = {name for name in state if name.endswith("relative_position_index")}
    assert state.keys() - indices == {our_name(name) for name in given} and len(indices) == 8
    for name, tensor in given.items():
        assert torch.equal(state[our_name(name)], tensor), name
    assert [getattr(network, head) is None for head in ("itm_head", "lm_head", "bbox_head")] == (
        [False, False, False] if kind == "pretraining" else [False, True, True]
    )


def test_what_the_published_code_computes(converted):
    encoder = Encoder.load(converted["pretraining"])
    network, last = encoder.network, arrays("text_atts").sum(1) - 1
    assert (encoder.max_length, str(encoder.preprocess), network.embed_dim) == (40, "lilt@64", 16)
    with torch.no_grad():
        image, text = network.encode_image(arrays("image")), network.encode_text(arrays("text_ids"), last)
        logits = network.itm_head(network.fuse(text, network.image_keys_values(image))[:, 0])
    for found, expected in ((image.vector, IMAGE), (text.vector, TEXT)):
        torch.testing.assert_close(normalize(found[0], dim=0), torch.tensor(expected), rtol=0, atol=2e-6)
    torch.testing.assert_close(logits, torch.tensor(MATCHING), rtol=0, atol=2e-6)


def test_captions_are_cleaned_and_cut_as_published(converted):
    encoder = Encoder.load(converted["pretraining"])
    given, plain = encoder.tokenize(["BAL-ban, (bos)!", "bal ban bos"])
    assert list(given) == list(plain) and given[0] == 0 and given[-1] == 2
    assert len(encoder.tokenize(["bal ban " * 90])[0]) == 40


def without(name):
    return lambda tensors: tensors.pop(name)


LAYER = "text_encoder.bert.encoder.layer"


@pytest.mark.parametrize(
    "edit, message",
    [
        (without("temp"), "field 'temp': tensor is missing"),
        (without("itm_head.0.bias"), "field 'itm_head.0.bias': tensor is missing"),
        (without(f"{LAYER}.7.crossattention.self.query.bias"), "'fusion.layer.1.crossattention.self.query.bias'"),
        (without(f"{LAYER}.8.crossattention.self.key.weight"), "text layers 6, 7, 9, 10, 11 of 12"),
        (without("text_encoder.bert.embeddings.word_embeddings.weight"), "word_embeddings"),
        (without("text_encoder.bert.embeddings.token_type_embeddings.weight"), "token_type_embeddings.weight'"),
        (without("text_proj.weight"), "field 'text_proj.weight': tensor is missing"),
        ({"cls_token.weight": torch.ones(2)}, "field 'cls_token.weight': unknown tensor; a CCLM as found"),
        ({"temp": "text"}, "field 'temp': is a str, not a tensor"),
        ({"temp": torch.ones(3)}, r"field 'temp': tensor has shape \[3\], expected \[\]"),
        ({"vision_encoder.patch_embed.proj.weight": torch.ones(3)}, "its image encoder is no Swin"),
        ({"text_encoder.cls.predictions.decoder.weight": torch.ones(120, 32)}, "decoder.weight': is not tied to"),
        ({"vision_encoder.layers.1.blocks.0.attn.relative_position_bias_table": torch.ones(8, 2)}, r"\[8, 2\]"),
        ({"vision_encoder.layers.2.blocks.0.attn.relative_position_bias_table": torch.ones(9, 1)}, r"\[9, 1\]|heads"),
        (lambda tensors: tensors.clear(), "holds no image encoder"),
    ],
)
def test_a_file_that_is_none_says_what_is_wrong(sentencepiece, tmp_path, edit, message):
    tensors = released()
    edit(tensors) if callable(edit) else tensors.update(edit)
    file = save(tmp_path / "file.th", tensors)
    with pytest.raises((DataError, UserError), match=message) as error:
        convert_cclm(file, tmp_path / "out", sentencepiece, text_heads=HEADS)
    assert "\n" not in str(error.value) and str(file) in str(error.value)
    assert not (tmp_path / "out" / "cclm.pt").exists()


@pytest.mark.parametrize(
    "changes, options, message",
    [
        ({"embed_dim": 32}, {}, "field 'config.embed_dim': is 32, and the tensors show 16"),
        ({"image_res": "big"}, {}, "field 'config.image_res'"),
        ({}, {"text_heads": None}, "text encoder has width 32.*give --text-heads"),
        ({}, {"sentencepiece": None}, "reads texts with 120 tokens: give --sentencepiece FOLDER of xlm-roberta-large"),
        ({}, {"text_heads": 5}, "32 is not a multiple of the number of attention heads 5"),
    ],
)
def test_options_and_configuration_have_to_fit(sentencepiece, tmp_path, changes, options, message):
    file = save(tmp_path / "file.th", released(), {**SAID, **changes})
    with pytest.raises((DataError, UserError), match=message):
        convert_cclm(file, tmp_path / "out", **{"sentencepiece": sentencepiece, "text_heads": HEADS, **options})


def test_the_tokenizer_has_to_be_as_large(tmp_path):
    (tmp_path / "text").write_text("bal bam bon ban\n" * 5, encoding="utf-8")
    train_sentencepiece([tmp_path / "text"], tmp_path / "spm", 12)
    with pytest.raises(UserError, match="has 14 tokens, the text encoder of .* 120"):
        convert_cclm(save(tmp_path / "file.th", released()), tmp_path / "out", tmp_path / "spm", text_heads=HEADS)


def test_the_command_fails_in_one_line(tmp_path, monkeypatch, capsys, sentencepiece):
    whole = save(tmp_path / "whole.th", released())
    (tmp_path / "cut.th").write_bytes(whole.read_bytes()[:-900])
    save(tmp_path / "object.th", {"temp": pickle.Pickler})
    cases = {"cut.th": "truncated or damaged", "object.th": "safe to load", "absent.th": "no such file"}
    for name, words in cases.items():
        arguments = ["mlvl-convert", "cclm", str(tmp_path / name), str(tmp_path / "out")]
        monkeypatch.setattr("sys.argv", [*arguments, "--sentencepiece", str(sentencepiece)])
        with pytest.raises(SystemExit) as status:
            cli_main()
        lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert status.value.code == 2 and len(lines) == 1 and words in lines[0] and name in lines[0]


def swin_shapes(width=128, layers=(2, 2, 18, 2), heads=(4, 8, 16, 32), window=7):
    shapes = {"patch_embed.proj.weight": (width, 3, 4, 4), "patch_embed.proj.bias": (width,)}
    shapes |= {f"patch_embed.norm.{kind}": (width,) for kind in ("weight", "bias")}
    for stage, (blocks, own) in enumerate(zip(layers, heads)):
        d = width * 2**stage
        for block in (f"layers.{stage}.blocks.{number}" for number in range(blocks)):
            shapes[f"{block}.attn.relative_position_bias_table"] = ((2 * window - 1) ** 2, own)
            for name, sizes in (("attn.qkv", (3 * d, d)), ("attn.proj", (d, d)), ("mlp.fc1", (4 * d, d))):
                shapes |= {f"{block}.{name}.weight": sizes, f"{block}.{name}.bias": sizes[:1]}
            shapes |= {f"{block}.mlp.fc2.weight": (d, 4 * d), f"{block}.mlp.fc2.bias": (d,)}
            shapes |= {f"{block}.norm{i}.{kind}": (d,) for i in (1, 2) for kind in ("weight", "bias")}
        if stage < len(layers) - 1:
            shapes[f"layers.{stage}.downsample.reduction.weight"] = (2 * d, 4 * d)
            shapes |= {f"layers.{stage}.downsample.norm.{kind}": (4 * d,) for kind in ("weight", "bias")}
    last = width * 2 ** (len(layers) - 1)
    shapes |= {"norm.weight": (last,), "norm.bias": (last,)}
    return {f"vision_encoder.{name}": shape for name, shape in shapes.items()}


def text_shapes(width, words, positions, types, image_width, prefix):
    def linear(name, inputs, outputs):
        return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}

    def norm(name):
        return {f"{name}.LayerNorm.weight": (width,), f"{name}.LayerNorm.bias": (width,)}

    shapes = {"embeddings.word_embeddings.weight": (words, width), **norm("embeddings")}
    shapes |= {"embeddings.position_embeddings.weight": (positions, width)}
    shapes |= {"embeddings.token_type_embeddings.weight": (types, width)}
    for number in range(12):
        layer = f"encoder.layer.{number}"
        for block, inputs in (("attention", width), ("crossattention", image_width))[: 1 + (number > 5)]:
            for part in ("query", "key", "value"):
                shapes |= linear(f"{layer}.{block}.self.{part}", width if part == "query" else inputs, width)
            shapes |= linear(f"{layer}.{block}.output.dense", width, width) | norm(f"{layer}.{block}.output")
        shapes |= linear(f"{layer}.intermediate.dense", width, 4 * width)
        shapes |= linear(f"{layer}.output.dense", 4 * width, width) | norm(f"{layer}.output")
    return {prefix + name: shape for name, shape in shapes.items()}


def published_file(kind, width=1024, words=250_002, positions=514, types=1):
    prefix = "text_encoder." if kind == "retrieval" else "text_encoder.bert."
    shapes = {**swin_shapes(), **text_shapes(width, words, positions, types, 1024, prefix), "temp": ()}
    heads = {"itm_head": 2, "bbox_head": 4} if kind == "pretraining" else {"itm_head": 2}
    for head, outputs in heads.items():
        shapes |= {f"{head}.0.weight": (2 * width, width), f"{head}.0.bias": (2 * width,)}
        shapes |= {f"{head}.1.weight": (2 * width,), f"{head}.1.bias": (2 * width,)}
        shapes |= {f"{head}.3.weight": (outputs, 2 * width), f"{head}.3.bias": (outputs,)}
    for side, inputs in (("vision_proj", 1024), ("text_proj", width)):
        shapes |= {f"{side}.weight": (256, inputs), f"{side}.bias": (256,)}
    if kind == "pretraining":
        head = "text_encoder.cls.predictions"
        shapes |= {f"{head}.bias": (words,), f"{head}.transform.dense.weight": (width, width)}
        names = ("dense.bias", "LayerNorm.weight", "LayerNorm.bias")
        shapes |= {f"{head}.transform.{name}": (width,) for name in names}
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def read_without_numbers(monkeypatch, tensors, config):
    source = SimpleNamespace(state={"model": tensors, "config": config})
    monkeypatch.setattr("mlvl_fairseq.checkpoints.formats.cclm.WeightSource", lambda path: source)
    return read_cclm("model.th")


@pytest.mark.parametrize("kind", BASE)
def test_the_published_size(monkeypatch, kind):
    tensors = published_file(kind)
    assert sum(one.numel() for one in tensors.values()) == BASE[kind]
    file = read_without_numbers(monkeypatch, tensors, {"image_res": 224, "embed_dim": 256})
    options = options_of(file, CclmTextConfig)
    heads = "matching,masked_lm,boxes" if kind == "pretraining" else "matching"
    assert {name: options[name] for name in ("image_tower", "text_tower", "fusion_layers", "heads")} == {
        "image_tower": "swin_base", "text_tower": "cclm_xlmr_large", "fusion_layers": 6, "heads": heads,
    }  # fmt: skip
    assert not {name for name in options if re.match("(image|text)_(width|heads|stage|size|window|layers)", name)}
    configs, every = configs_of(options, 250_002)
    network = without_values(CclmNetwork.of_options, every, configs)
    assert sum(parameter.numel() for parameter in network.parameters()) == BASE[kind]
    indices = {name for name in network.state_dict() if name.endswith("relative_position_index")}
    assert {name: one.shape for name, one in network.state_dict().items() if name not in indices} == {
        name: one.shape for name, one in file.tensors.items()
    }


def test_an_x_vlm_keeps_its_keys_of_images(monkeypatch):
    """Texts of width 768 beside images of width 1024: the file's keys and values are those of images."""
    file = read_without_numbers(monkeypatch, published_file("pretraining", 768, 30_522, 512, 2), {"image_res": 224})
    options = options_of(file, BertConfig)
    assert (options["text_tower"], options["text_token_types"], options["text_layers"]) == ("bert_base", "keep", 6)
    configs, every = configs_of(options, 30_522)
    state = without_values(CclmNetwork.of_options, every, configs).state_dict()
    assert state["fusion.layer.0.crossattention.self.image_key.weight"].shape == (768, 1024)
    types = file.tensors["text_encoder.embeddings.token_type_embeddings.weight"]
    assert types.shape == (1, 768) and file.token_types == 2


def test_images_of_another_width_keep_their_keys_and_values(sentencepiece, tmp_path, caplog):
    """Those of texts as views, which the file does not have, are random."""
    tensors = {name: one for name, one in released().items() if not name.startswith("vision_encoder.")}
    shapes = {**swin_shapes(2, (2, 2, 2, 2), (1, 2, 2, 4), 2), "vision_proj.weight": (16, 16)}
    maps = [name for name in tensors if re.search(r"crossattention\.self\.(key|value)\.weight", name)]
    shapes |= dict.fromkeys(maps, (32, 16))
    tensors |= {name: torch.randn(shape, generator=torch.Generator().manual_seed(1)) for name, shape in shapes.items()}
    types = "text_encoder.bert.embeddings.token_type_embeddings.weight"
    tensors[types] = torch.stack([tensors[types][0], torch.ones(32)])
    path = convert_cclm(save(tmp_path / "file.th", tensors), tmp_path / "out", sentencepiece, text_heads=HEADS)
    state = Encoder.load(path).network.state_dict()
    assert torch.equal(state[our_name(types)], tensors[types][:1])
    assert len(maps) == 12 and "keys and values of texts as views are random" in caplog.text
    for name in maps:
        own = our_name(name)
        of_images = re.sub("self.(key|value)", r"self.image_\1", own)
        for kind in ("weight", "bias"):
            given = tensors[name.replace("weight", kind)]
            assert torch.equal(state[of_images.replace("weight", kind)], given)
        assert state[own].shape == (32, 32) and float(state[own].std()) == pytest.approx(0.02, rel=0.1)
        assert not state[own.replace("weight", "bias")].any()


def test_one_projection_of_images_and_texts(sentencepiece, tmp_path):
    tensors = {name: one for name, one in released("retrieval").items() if not name.startswith("vision_proj.")}
    path = convert_cclm(save(tmp_path / "file.th", tensors), tmp_path / "out", sentencepiece, text_heads=HEADS)
    network = Encoder.load(path).network
    assert network.vision_proj is network.text_proj
    assert torch.equal(network.text_proj.weight, tensors["text_proj.weight"])


def test_the_configuration_says_how_large_pictures_are(monkeypatch):
    """Without it they are one window in the last stage."""
    tensors, said = published_file("retrieval"), ({"image_res": 384}, {})
    sizes = [read_without_numbers(monkeypatch, dict(tensors), one).image["image_size"] for one in said]
    assert sizes == [384, 224]


def test_what_follows_from_other_tensors_is_left_out(tmp_path):
    tensors = released()
    dropped = read_cclm(save(tmp_path / "file.th", tensors)).dropped
    assert len(dropped) == 14 and set(dropped) == {
        name.replace("text_encoder.bert.", "text_encoder.") for name in tensors.keys() - published_weights().keys()
    }
