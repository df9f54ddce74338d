"""Our tokenizers as files of `tokenizers` and `transformers`, with the same ids."""

from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple, Type

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram

from mlvl_fairseq.data.text import ClipTokenizer, Tokenizer
from mlvl_fairseq.data.text.cleaning import MAX_WORDS, NO_CLEANING
from mlvl_fairseq.data.text.clip_bpe import BOS_TOKEN, EOS_TOKEN
from mlvl_fairseq.data.text.sentencepiece import MASK, MODEL_FILE, SentencePieceTokenizer
from mlvl_fairseq.data.text.sentencepiece_trimming import fields
from mlvl_fairseq.data.text.wordpiece import BEGIN, END, PAD, UNKNOWN, WordPieceTokenizer
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import atomic_path, open_file, write_json

FAST, CONFIG = "tokenizer.json", "tokenizer_config.json"
NORMALIZER_SPEC, CHARSMAP, DUMMY_PREFIX, FEWER_SPACES = 3, 2, 3, 4  # fields of SentencePiece's file
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}

# What is done to texts before they are cut (`mlvl_fairseq.data.text.cleaning`), as `tokenizers` says it.
_LILT_LEFT_OUT = Regex(r"[,.'!?\"()*#:;~]")
_CLEANINGS: Dict[str, Callable[[], List[normalizers.Normalizer]]] = {
    NO_CLEANING: list,
    "lilt": lambda: [
        normalizers.Lowercase(),
        normalizers.Replace(_LILT_LEFT_OUT, ""),
        normalizers.Replace(Regex("[-/]"), " "),
        normalizers.Replace("<person>", "person"),
        normalizers.Replace(Regex(r"\s{2,}"), " "),
        normalizers.Replace(Regex(r"\n+\z"), ""),
        normalizers.Replace(Regex(r"\A +| +\z"), ""),
        normalizers.Replace(Regex(rf"\A(?:[^ ]* ){{{MAX_WORDS - 1}}}[^ ]*\K (?m:.*)\z"), ""),
    ],
}


def unfit_tokenizer(tokenizer: Tokenizer, lang: Optional[str]) -> Optional[str]:
    """Why no tokenizer of another program gives the same ids, in words; None: one does.

    Args:
        lang: the language that captions are in; None: any.
    """
    learned = getattr(tokenizer, "segmentation", {})
    if learned and lang not in learned:
        known = ",".join(learned)
        return (
            "it cuts captions of each language as when that was learned (--segmentation frozen), and other programs' "
            f"tokenizers know no language: give --lang with one of {known}"
        )
    cleaning = _cleaning_of(tokenizer)
    if cleaning not in _CLEANINGS:
        return f"its captions are cleaned by '{cleaning}' before they are cut, which no other tokenizer does"
    return None


def _cleaning_of(tokenizer: Tokenizer) -> str:
    pieces = getattr(tokenizer, "pieces", tokenizer)
    return getattr(pieces, "cleaning", NO_CLEANING)


def write_clip_tokenizer(tokenizer: ClipTokenizer, folder: Path, longest: int) -> None:
    """``vocab.json``, ``merges.txt`` and ``tokenizer_config.json`` of `transformers`' CLIPTokenizer.

    Args:
        longest: text in tokens, special ones included.
    """
    tokenizer.vocabulary.save(folder)
    special = {"bos_token": BOS_TOKEN, "eos_token": EOS_TOKEN, "unk_token": EOS_TOKEN, "pad_token": EOS_TOKEN}
    write_json(folder / CONFIG, {"tokenizer_class": "CLIPTokenizer", **special, "model_max_length": longest})


def write_fast_tokenizer(tokenizer: Tokenizer, folder: Path, longest: int) -> None:
    """``tokenizer.json`` and ``tokenizer_config.json``, for whatever is made on `tokenizers`.

    Args:
        longest: text in tokens, special ones included.

    Raises:
        DataError: a file of the tokenizer cannot be read.
    """
    fast, special = _BUILDERS[_kind(tokenizer)](tokenizer)
    fast.enable_truncation(longest)
    fast.enable_padding(pad_id=tokenizer.pad, pad_token=special["pad_token"])
    with atomic_path(folder / FAST) as temporary:
        temporary.write_text(fast.to_str(pretty=False), encoding="utf-8")
    config: Dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", **special, "model_max_length": longest}
    write_json(folder / CONFIG, {**config, "model_input_names": ["input_ids", "attention_mask"]})


Fast = Tuple[tokenizers.Tokenizer, Dict[str, str]]


def _kind(tokenizer: Tokenizer) -> Type[Tokenizer]:
    return next(kind for kind in type(tokenizer).__mro__ if kind in _BUILDERS)


def _copy(tokenizer: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """So that what is changed is not at work in ours."""
    return tokenizers.Tokenizer.from_str(tokenizer.to_str())


def _ends(tokenizer: Tokenizer, begin: str, end: str) -> processors.PostProcessor:
    texts = [begin, "$A", *([end] if tokenizer.ends_texts else [])]
    special = [(begin, tokenizer.bos), (end, tokenizer.eos)]
    return processors.TemplateProcessing(single=texts, pair=[*texts, "$B"], special_tokens=special)


def _clip(tokenizer: ClipTokenizer) -> Fast:
    fast = _copy(tokenizer.vocabulary.cutter)
    fast.post_processor = _ends(tokenizer, BOS_TOKEN, EOS_TOKEN)
    return fast, {"bos_token": BOS_TOKEN, "eos_token": EOS_TOKEN, "unk_token": EOS_TOKEN, "pad_token": EOS_TOKEN}


def _wordpiece(tokenizer: WordPieceTokenizer) -> Fast:
    fast = _copy(tokenizer.cutter)
    before = _CLEANINGS[tokenizer.pieces.cleaning]()
    fast.normalizer = normalizers.Sequence([*before, fast.normalizer]) if before else fast.normalizer
    fast.post_processor = _ends(tokenizer, BEGIN, END)
    return fast, {"cls_token": BEGIN, "sep_token": END, "unk_token": UNKNOWN, "pad_token": PAD}


def _sentencepiece(tokenizer: SentencePieceTokenizer) -> Fast:
    processor = tokenizer.processor
    dictionary, scores = tokenizer.dictionary, {}
    for number, own in enumerate(tokenizer.piece_ids):
        if not (processor.is_control(number) or processor.is_unknown(number)):
            scores[own] = processor.get_score(number)
    vocabulary = [(dictionary[own], scores.get(own, 0.0)) for own in range(len(dictionary))]
    fast = tokenizers.Tokenizer(Unigram(vocabulary, unk_id=dictionary.unk(), byte_fallback=False))
    charsmap = _charsmap(tokenizer.folder / MODEL_FILE)
    steps = _CLEANINGS[tokenizer.cleaning]() + ([normalizers.Precompiled(charsmap)] if charsmap else [])
    if steps:
        fast.normalizer = normalizers.Sequence(steps)
    words = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    fast.pre_tokenizer = pre_tokenizers.Sequence(words)
    fast.post_processor = _ends(tokenizer, SPECIAL["bos_token"], SPECIAL["eos_token"])
    return fast, {**SPECIAL, "cls_token": "<s>", "sep_token": "</s>", "mask_token": MASK}


def _charsmap(path: Path) -> bytes:
    """The table of characters by which a SentencePiece model normalises texts; empty: it has none.

    Raises:
        DataError: it prepares texts in a way that `tokenizers` has not.
    """
    with open_file(path) as file:
        spec = b"".join(bytes(field.value) for field in fields(file.read()) if field.number == NORMALIZER_SPEC)
    found = {field.number: field.value for field in fields(spec)}
    if not (found.get(DUMMY_PREFIX, 1) and found.get(FEWER_SPACES, 1)):
        raise DataError("keeps spaces as they are, which tokenizer.json cannot say", path)
    return bytes(found.get(CHARSMAP, b""))


_BUILDERS: Dict[Type[Tokenizer], Callable[[Any], Fast]] = {
    ClipTokenizer: _clip,
    WordPieceTokenizer: _wordpiece,
    SentencePieceTokenizer: _sentencepiece,
}
