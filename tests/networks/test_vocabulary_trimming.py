"""XLM-R's vocabulary without the pieces that texts do not use: these have the same vectors, others lose some."""

import json
import logging
import random
import struct

import numpy as np
import pytest
import sentencepiece
import torch

from mlvl_fairseq.checkpoints.archive import save_checkpoint
from mlvl_fairseq.checkpoints.formats.xlmr import XlmrWeights, write_xlmr
from mlvl_fairseq.checkpoints.source import WeightSource
from mlvl_fairseq.checkpoints.towers.bert import read_stack
from mlvl_fairseq.cli.convert import main
from mlvl_fairseq.data.text.sentencepiece import SentencePieceTokenizer, train_sentencepiece
from mlvl_fairseq.data.text.sentencepiece_trimming import fields, needed_pieces, trimmed
from mlvl_fairseq.data.text_sources import texts_of
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.modules.towers.cclm_text import CclmTextConfig
from mlvl_fairseq.modules.towers.xlmr import XlmrConfig
from mlvl_fairseq.networks.cclm import CclmNetwork
from mlvl_fairseq.networks.cclm_import import configs_of
from mlvl_fairseq.networks.vocabulary_trimming import trim_vocabulary

OPTIONS = {
    "image_tower": "swin_nano", "image_size": 48, "image_width": 4, "image_window": 3, "image_stage_layers": "1,1",
    "image_stage_heads": "1,2", "text_tower": "cclm_xlmr_nano", "text_width": 16, "text_layers": 1, "text_heads": 2,
    "text_max_positions": 90, "embed_dim": 8, "fusion_layers": 1,
}  # fmt: skip
PIECES = 150


def words(seed, number):
    """Made of syllables, so that words share pieces."""
    draw = random.Random(seed)
    syllables = [first + second for first in "bcdfghklmnprstvwz" for second in "aeiou"]
    return ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(number)]


SENTENCES = [" ".join(words(seed, 5)) for seed in range(300)]
TEXTS = [*SENTENCES[:12], "", "ba be ☃ ba", "Unknown Capitals"]
OTHERS = SENTENCES[200:240]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spm")
    (folder / "all").write_text("\n".join(SENTENCES), encoding="utf-8")
    (folder / "texts").write_text("\n".join(TEXTS), encoding="utf-8")
    (folder / "others").write_text("\n".join(OTHERS), encoding="utf-8")
    train_sentencepiece([folder / "all"], folder, PIECES)
    return folder


@pytest.fixture(scope="module")
def checkpoint(folder):
    """A CCLM with random weights, as training writes it."""
    torch.manual_seed(0)
    tokenizer = SentencePieceTokenizer(folder, "lilt")
    configs, every = configs_of(OPTIONS, len(tokenizer))
    network = CclmNetwork.of_options(every, configs)
    task = {"max_length": 80, "tokenizer_folder": str(folder)}
    model = {"_name": "cclm", "transform": "lilt", "temperature": "clamped", **OPTIONS}
    content = {"cfg": {"model": model, "task": task}, "model": network.state_dict()}
    save_checkpoint({**content, "task_state": tokenizer.checkpoint_state()}, folder / "model.pt")
    return folder / "model.pt"


@pytest.fixture(scope="module")
def trimmed_checkpoint(checkpoint, folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "small"
    main(["trim-vocabulary", str(checkpoint), str(folder / "texts"), str(out)])
    return out / "model.pt"


def test_the_texts_have_the_same_vectors_and_scores(checkpoint, trimmed_checkpoint):
    before, after = Encoder.load(checkpoint), Encoder.load(trimmed_checkpoint)
    assert len(after.tokenizer) < 0.8 * len(before.tokenizer)
    np.testing.assert_allclose(after.encode_texts(TEXTS), before.encode_texts(TEXTS), rtol=0, atol=1e-6)
    picture = torch.randn(1, 3, 48, 48)
    with torch.no_grad():
        for text in TEXTS:
            found = []
            for encoder in (before, after):
                ids = torch.tensor(encoder.tokenize([text]))
                states = encoder.network.encode_text(ids, torch.tensor([ids.shape[1] - 1]))
                image = encoder.network.encode_image(picture)
                found.append(encoder.network.match(image, states))
            torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-6)


def test_ids_map_back(checkpoint, trimmed_checkpoint):
    before, after = Encoder.load(checkpoint), Encoder.load(trimmed_checkpoint)
    original = [int(line) for line in (trimmed_checkpoint.parent / "original_ids.txt").read_text().split()]
    symbols = before.tokenizer.dictionary.symbols
    assert [symbols[number] for number in original] == after.tokenizer.dictionary.symbols
    assert after.tokenizer.dictionary.symbols[:4] == ["<s>", "<pad>", "</s>", "<unk>"]
    assert after.tokenizer.dictionary.symbols[-1] == "<mask>" and original[-1] == len(symbols) - 1
    for old, new in zip(before.tokenize(TEXTS), after.tokenize(TEXTS)):
        assert list(old) == [original[number] for number in new]
    for name in ("text_encoder.embeddings.word_embeddings.weight", "lm_head.bias"):
        wide, small = (encoder.network.state_dict()[name] for encoder in (before, after))
        assert torch.equal(small, wide[original])


def test_what_is_left_and_what_others_lose_is_told(checkpoint, folder, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        arguments = ["trim-vocabulary", str(checkpoint), str(folder / "texts"), str(tmp_path / "out")]
        main([*arguments, "--held-out", str(folder / "others")])
    before, after = Encoder.load(checkpoint), Encoder.load(tmp_path / "out" / "model.pt")
    sizes = [sum(one.numel() for one in encoder.network.parameters()) for encoder in (after, before)]
    assert f"{len(after.tokenizer):,} of {len(before.tokenizer):,} tokens are kept" in caplog.text
    assert f"{sizes[0]:,} of {sizes[1]:,} parameters are left" in caplog.text
    dropped = len(before.tokenizer) - len(after.tokenizer)
    assert sizes[1] - sizes[0] == dropped * (16 + 1)  # an embedding, and a bias of the head
    cuts = [[encoder.tokenizer.tokens(text) for text in OTHERS] for encoder in (before, after)]
    changed = sum(old != new for old, new in zip(*cuts))
    unknown = sum(ids.count(3) for ids in after.tokenizer.encode_batch(OTHERS))
    assert 0 < changed and f"{changed} of 40 texts are cut otherwise" in caplog.text
    assert f"({unknown:,} unknown ones instead of 0)" in caplog.text


def test_the_folder_works_as_a_tokenizer(trimmed_checkpoint):
    """Loaded by its name alone: what mlvl-prepare --sentencepiece and fairseq take."""
    folder = trimmed_checkpoint.parent
    tokenizer = SentencePieceTokenizer(folder)
    lines = (folder / "dict.txt").read_text(encoding="utf-8").splitlines()
    processor = sentencepiece.SentencePieceProcessor(str(folder / "sentencepiece.bpe.model"))
    assert len(lines) + 5 == len(tokenizer) == len(processor) + 2
    assert tokenizer.decode(tokenizer.encode_batch(SENTENCES[:1])[0]) == SENTENCES[0]


@pytest.mark.parametrize("seed", range(3))
def test_no_text_of_kept_pieces_is_cut_otherwise(folder, seed):
    """Pieces of many random texts: the best cut stays the best one."""
    content = (folder / "sentencepiece.bpe.model").read_bytes()
    whole = sentencepiece.SentencePieceProcessor(model_proto=content)
    draw = random.Random(seed)
    texts = ["".join(draw.choices("bcdaeioumnst ☃é", k=40)) for _ in range(20 * (seed + 1))]
    used = {number for ids in whole.encode(texts, out_type=int) for number in ids}
    kept = needed_pieces(content, used, "file")
    small = sentencepiece.SentencePieceProcessor(model_proto=trimmed(content, kept))
    assert len(small) == len(kept) < len(whole)
    assert small.encode(texts, out_type=str) == whole.encode(texts, out_type=str)
    places = {number: place for place, number in enumerate(kept)}
    assert small.encode(texts) == [[places[number] for number in ids] for ids in whole.encode(texts)]


def message_of(pieces, template):
    """A model of (piece, score, type) with all else as in another one."""
    parts = [field.raw for field in fields(template) if field.number != 1]
    for piece, score, kind in pieces:
        text = piece.encode()
        inner = b"\x0a" + bytes([len(text)]) + text + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind])
        parts.append(b"\x0a" + bytes([len(inner)]) + inner)
    return b"".join(parts)


def test_the_worst_piece_stays(folder):
    """An unknown character scores 10 below it. Without 'a' (-45) an unknown one with 'bc' would have -20 - 10 - 1 and
    win against 'ab' and 'c' with -40."""
    special = [("<unk>", 0, 2), ("<s>", 0, 3), ("</s>", 0, 3)]
    pieces = [("\u2581", -1, 1), ("a", -45, 1), ("ab", -20, 1), ("c", -20, 1), ("bc", -1, 1), ("d", -2, 1)]
    content = message_of(special + pieces, (folder / "sentencepiece.bpe.model").read_bytes())
    whole = sentencepiece.SentencePieceProcessor(model_proto=content)
    assert whole.encode(["abc", "bc"], out_type=str) == [["\u2581", "ab", "c"], ["\u2581", "bc"]]
    kept = needed_pieces(content, [3, 5, 6, 7], "file")
    small = sentencepiece.SentencePieceProcessor(model_proto=trimmed(content, kept))
    assert small.encode(["abc", "bc"], out_type=str) == whole.encode(["abc", "bc"], out_type=str)
    assert kept == [0, 1, 2, 3, 4, 5, 6, 7]


def test_pieces_that_no_text_uses_but_that_others_follow_from(folder):
    content = (folder / "sentencepiece.bpe.model").read_bytes()
    whole = sentencepiece.SentencePieceProcessor(model_proto=content)
    scores = {number: whole.get_score(number) for number in range(3, len(whole))}
    kept = needed_pieces(content, [], "file")
    assert set(kept) == {0, 1, 2, min(scores, key=scores.get), max(scores, key=scores.get)}


def huggingface(folder, out, tokenizer):
    torch.manual_seed(0)
    tower = CclmTextConfig(len(tokenizer), 16, 2, 2, 24, 20).build()
    tensors = {f"roberta.{name}": tensor for name, tensor in tower.state_dict().items()}
    for name, shape in (("dense.weight", (16, 16)), ("dense.bias", (16,)), ("layer_norm.weight", (16,))):
        tensors[f"lm_head.{name}"] = torch.randn(shape)
    words = tensors["roberta.embeddings.word_embeddings.weight"]
    tensors.update({"lm_head.layer_norm.bias": torch.randn(16), "lm_head.bias": torch.randn(len(tokenizer))})
    tensors["lm_head.decoder.weight"] = words
    out.mkdir()
    torch.save(tensors, out / "pytorch_model.bin")
    said = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    said.update(model_type="xlm-roberta", layer_norm_eps=1e-5, vocab_size=len(tokenizer), architectures=["X"])
    (out / "config.json").write_text(json.dumps(said))
    (out / "sentencepiece.bpe.model").write_bytes((folder / "sentencepiece.bpe.model").read_bytes())
    return tensors


def test_a_folder_of_hugging_face(folder, tmp_path, caplog):
    """It has no dict.txt: ids follow from the order of pieces."""
    tokenizer = SentencePieceTokenizer(folder)
    tensors = huggingface(folder, tmp_path / "xlmr", tokenizer)
    assert SentencePieceTokenizer(tmp_path / "xlmr").dictionary.symbols == tokenizer.dictionary.symbols
    other = tmp_path / "other"
    train_sentencepiece([folder / "texts"], other, 60)
    with pytest.raises(UserError, match=f"^--sentencepiece {other} is not the tokenizer that lies in .*: leave it out"):
        trim_vocabulary(tmp_path / "xlmr", [folder / "texts"], tmp_path / "out", other)
    with caplog.at_level(logging.INFO):
        out = trim_vocabulary(tmp_path / "xlmr", [folder / "texts"], tmp_path / "out")
    ids = [int(line) for line in (out / "original_ids.txt").read_text().split()]
    said = json.loads((out / "config.json").read_text())
    assert (said["vocab_size"], said["architectures"]) == (len(ids), ["X"])
    config = CclmTextConfig(len(ids), 16, 1, 2, 24, 20)
    stack = read_stack(WeightSource(out), config)
    words = tensors["roberta.embeddings.word_embeddings.weight"]
    assert torch.equal(stack.tensors["embeddings.word_embeddings.weight"], words[ids])
    assert torch.equal(stack.head["lm_head.bias"], tensors["lm_head.bias"][ids])
    total = sum(one.numel() for name, one in tensors.items() if "decoder" not in name)
    left = total - (len(tokenizer) - len(ids)) * 17
    assert f"{left:,} of {total:,} parameters are left" in caplog.text  # tied ones are counted once


def test_a_folder_of_fairseq(folder, tmp_path):
    tokenizer = SentencePieceTokenizer(folder)
    xlmr = XlmrConfig(len(tokenizer), layers=1, width=16, ffn_width=24, heads=2, max_positions=20)
    state = {name: torch.randn_like(one) for name, one in xlmr.build().state_dict().items() if name != "version"}
    write_xlmr(XlmrWeights(xlmr, state, "file"), folder / "xlmr.pt")
    source = tmp_path / "xlmr"
    source.mkdir()
    for name, target in (("sentencepiece.bpe.model",) * 2, ("dict.txt",) * 2, ("xlmr.pt", "model.pt")):
        (source / target).write_bytes((folder / name).read_bytes())
    out = trim_vocabulary(source, [folder / "texts"], tmp_path / "out", cleaning="lilt")
    ids = [int(line) for line in (out / "original_ids.txt").read_text().split()]
    stack = read_stack(WeightSource(out), CclmTextConfig(len(ids), 16, 1, 2, 24, 20))
    assert torch.equal(stack.tensors["embeddings.word_embeddings.weight"], state["embed_tokens.weight"][ids])
    assert stack.head["lm_head.bias"].shape == (len(ids),)


def test_texts_of_records(tmp_path):
    rows = [
        {"binary": "QUFBQQ==", "caption": {"en": "one", "de": ["two", "three"]}},
        {"binary": "QUFBQQ==", "elems": [{"bb": [0, 0, 1, 1], "caption": "four", "attributes": {"en": "five"}}]},
        {"source_text": "six", "target_text": "seven", "other": "never"},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert list(texts_of(tmp_path / "a.jsonl")) == ["one", "two", "three", "four", "five", "six", "seven"]


@pytest.mark.parametrize("content", [b"nonsense", b"\x0a\xff", b"\x0a\x05ab", b"\xff" * 12, b"\x0b"])
def test_what_is_no_model(content):
    with pytest.raises(DataError, match="file: is damaged, or no SentencePiece model"):
        needed_pieces(content, [], "file")


def test_fields_of_all_kinds():
    message = b"\x08\x96\x01" + b"\x12\x02hi" + b"\x1d\x00\x00\x80\x3f" + b"\x21" + bytes(8)
    found = list(fields(message))
    assert [(one.number, one.value) for one in found] == [(1, 150), (2, b"hi"), (3, b"\x00\x00\x80\x3f"), (4, bytes(8))]
    assert b"".join(one.raw for one in found) == message


def test_what_cannot_be_trimmed(checkpoint, folder, tmp_path):
    (tmp_path / "empty").write_text("", encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "all"), model_prefix=str(tmp_path / "bpe"), model_type="bpe", vocab_size=120, minloglevel=2
    )
    with pytest.raises(UserError, match="is no unigram model"):
        needed_pieces((tmp_path / "bpe.model").read_bytes(), [], tmp_path / "bpe.model")
    texts = [folder / "texts"]
    cases = [
        (UserError, "holds the model itself: write to another folder", (checkpoint, texts, folder), {}),
        (UserError, "says itself how texts are cleaned", (checkpoint, texts, tmp_path / "out"), {"cleaning": "lilt"}),
        (UserError, "there is no text in", (checkpoint, [tmp_path / "empty"], tmp_path / "out"), {}),
        (DataError, "no such file", (checkpoint, [tmp_path / "absent"], tmp_path / "out"), {}),
        (DataError, "no such file", (folder / "nowhere", texts, tmp_path / "out"), {}),
    ]
    for kind, message, arguments, options in cases:
        with pytest.raises(kind, match=message) as error:
            trim_vocabulary(*arguments, **options)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "model.pt").exists()


def test_a_folder_whose_weights_are_of_another_vocabulary(folder, tmp_path):
    tensors = huggingface(folder, tmp_path / "xlmr", SentencePieceTokenizer(folder))
    tensors["roberta.embeddings.word_embeddings.weight"] = torch.ones(20, 16)
    torch.save(tensors, tmp_path / "xlmr" / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"word_embeddings.weight': tensor has shape \[20, 16\] for the 152 tokens"):
        trim_vocabulary(tmp_path / "xlmr", [folder / "texts"], tmp_path / "out")
    torch.save({"norm.bias": torch.ones(3)}, tmp_path / "xlmr" / "pytorch_model.bin")
    with pytest.raises(DataError, match="holds no embedding of words; give an XLM-R"):
        trim_vocabulary(tmp_path / "xlmr", [folder / "texts"], tmp_path / "out")
