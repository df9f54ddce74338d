"""XLM-R's vocabulary cut to the pieces that texts use: 250,002 embeddings are most of a small model.

Texts that use these pieces only are cut and encoded as before; others are cut into smaller pieces, or have unknown
ones.
"""

import logging
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import torch

from mlvl_fairseq.checkpoints.archive import save_checkpoint
from mlvl_fairseq.checkpoints.check import without_values
from mlvl_fairseq.checkpoints.huggingface import read_weights
from mlvl_fairseq.checkpoints.source import Tensors, WeightSource
from mlvl_fairseq.data.text.cleaning import NO_CLEANING
from mlvl_fairseq.data.text.sentencepiece import DICTIONARY_FILE, MODEL_FILE, SentencePieceTokenizer
from mlvl_fairseq.data.text.sentencepiece_trimming import count_pieces, needed_pieces, trimmed
from mlvl_fairseq.data.text_sources import texts_of
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.files import atomic_path, write_json, write_text
from mlvl_fairseq.json_files import checked, read_json
from mlvl_fairseq.networks.dual_encoder import TowerConfigs
from mlvl_fairseq.networks.dual_encoder_files import WholeDualEncoder, read_whole, write_merged

logger = logging.getLogger(__name__)

IDS_FILE = "original_ids.txt"
FAIRSEQ_FILE, CONFIG_FILE, WEIGHTS_FILE = "model.pt", "config.json", "pytorch_model.bin"
SPARE_ROWS = 127  # tables are padded to multiples of 8, 64 or 128 rows
# What has a row for each token, in files of fairseq and of Hugging Face.
ROWS = re.compile(r"(embed_tokens|word_embeddings)\.weight$|(lm_head|cls\.predictions)\.(decoder\.)?(weight|bias)$")


def trim_vocabulary(
    path, texts: Sequence, folder, sentencepiece=None, held_out: Sequence = (), cleaning: Optional[str] = None
) -> Path:
    """Write a model with the pieces that texts use, and its tokenizer, into one folder.

    Args:
        path: a checkpoint of this plugin, or an XLM-R folder of fairseq or Hugging Face. texts: see
            :func:`mlvl_fairseq.data.text_sources.texts_of`. folder: made if it is not there; beside the weights it gets
            ``sentencepiece.bpe.model``, ``dict.txt``, and ``original_ids.txt``, line k of which is the id that k was.
        sentencepiece: the tokenizer, where it is neither in the folder nor where the checkpoint says.
        held_out: texts that what is lost is counted on.
        cleaning: what was done to the texts that an XLM-R folder is for; None: what a checkpoint says, or nothing.

    Returns:
        the checkpoint, or the folder.

    Raises:
        DataError: a file is missing or damaged. UserError: the model's tokenizer is not SentencePiece, or no unigram
            model; or `folder` is the model's own.
    """
    path, folder = Path(path), Path(folder)
    model = _opened(path, sentencepiece, cleaning)
    before = model.tokenizer
    for own in {path if path.is_dir() else path.parent, before.folder}:
        if folder.exists() and folder.samefile(own):
            raise UserError(f"{folder} holds the model itself: write to another folder")
    content = (before.folder / MODEL_FILE).read_bytes()
    used = count_pieces(before.processor, (before.clean(text) for source in texts for text in texts_of(source)))
    if not used:
        raise UserError(f"there is no text in {', '.join(map(str, texts))}")
    pieces = needed_pieces(content, used, before.folder / MODEL_FILE)
    dropped = {before.piece_ids[number] for number in set(range(len(before.processor))) - set(pieces)}
    ids = [number for number in range(len(before)) if number not in dropped]
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / MODEL_FILE) as temporary:
        temporary.write_bytes(trimmed(content, pieces))
    first, last = before.dictionary.nspecial, len(before) - 1  # <mask> is not in the file
    kept = [before.dictionary.symbols[number] for number in ids if first <= number < last]
    write_text(folder / DICTIONARY_FILE, "".join(f"{symbol} 1\n" for symbol in kept))
    write_text(folder / IDS_FILE, "".join(f"{number}\n" for number in ids))
    after = SentencePieceTokenizer(folder, before.cleaning, before.max_words)
    numbers = model.write(ids, after, folder)
    logger.info("%s: %s of %s tokens are kept", path, f"{len(after):,}", f"{len(before):,}")
    logger.info("%s: %s of %s parameters are left", path, *(f"{number:,}" for number in numbers))
    for source in held_out:
        logger.info("%s: %s", source, lost(before, after, texts_of(source)))
    return model.written(folder)


@dataclass
class Lost:
    """What texts lose with a smaller vocabulary.

    Attributes:
        texts: how many. changed: those that are cut otherwise.
        unknown_texts: those with more unknown pieces than before.
        pieces, unknown: all pieces, and the unknown ones, before and after.
    """

    texts: int = 0
    changed: int = 0
    unknown_texts: int = 0
    pieces: Tuple[int, int] = (0, 0)
    unknown: Tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        cut = f"{self.changed:,} of {self.texts:,} texts are cut otherwise"
        sizes = f"{self.pieces[1]:,} pieces instead of {self.pieces[0]:,}"
        unknown = f"{self.unknown[1]:,} unknown ones instead of {self.unknown[0]:,}"
        return f"{cut} ({sizes}), {self.unknown_texts:,} lose pieces ({unknown})"


def lost(before: SentencePieceTokenizer, after: SentencePieceTokenizer, texts: Iterable[str]) -> Lost:
    """Compare how two tokenizers cut texts."""
    found = Lost()
    for text in texts:
        cuts = before.tokens(text), after.tokens(text)
        unknown = tuple(one.encode_batch([text])[0].count(one.dictionary.unk()) for one in (before, after))
        found.texts += 1
        found.changed += cuts[0] != cuts[1]
        found.unknown_texts += unknown[1] > unknown[0]
        found.pieces = found.pieces[0] + len(cuts[0]), found.pieces[1] + len(cuts[1])
        found.unknown = found.unknown[0] + unknown[0], found.unknown[1] + unknown[1]
    return found


class _Model(ABC):
    """A model whose vocabulary is cut."""

    tokenizer: SentencePieceTokenizer

    @abstractmethod
    def write(self, ids: List[int], tokenizer: SentencePieceTokenizer, folder: Path) -> Tuple[int, int]:
        """Write it with the embeddings `ids` into the folder of its new tokenizer. Returns numbers of parameters, left
        and before."""

    def written(self, folder: Path) -> Path:
        return folder


def _opened(path: Path, sentencepiece, cleaning: Optional[str]) -> _Model:
    if not path.is_dir():
        return _Checkpoint(path, sentencepiece, cleaning)
    kind = _HuggingFace if (path / CONFIG_FILE).exists() else _Fairseq
    tokenizer = SentencePieceTokenizer(sentencepiece or path, cleaning or NO_CLEANING)
    if sentencepiece and tokenizer.detect(path) and not tokenizer.continues(SentencePieceTokenizer(path)):
        raise UserError(f"--sentencepiece {sentencepiece} is not the tokenizer that lies in {path}: leave it out")
    return kind(path, tokenizer)


class _Checkpoint(_Model):
    def __init__(self, path: Path, sentencepiece, cleaning: Optional[str]):
        self.whole: WholeDualEncoder = read_whole(WeightSource(path), tokenizer_folder=sentencepiece)
        if not isinstance(self.whole.tokenizer, SentencePieceTokenizer):
            raise UserError(f"{path} cuts texts with {self.whole.tokenizer.name}, and only SentencePiece's are trimmed")
        if cleaning is not None:
            raise UserError(f"{path} says itself how texts are cleaned: leave --cleaning out")
        self.tokenizer, self.name = self.whole.tokenizer, path.name

    def write(self, ids, tokenizer, folder):
        configs = TowerConfigs.of_options(self.whole.options, len(tokenizer))
        less = replace(self.whole, configs=configs, tokenizer=tokenizer, tokenizer_folder=str(folder))
        networks = without_values(less.build), without_values(self.whole.build)
        shapes = {name: tensor.shape for name, tensor in networks[0].state_dict().items()}
        rows = torch.tensor(ids)
        every = self.whole.tensors.items()
        less = replace(less, tensors={name: one if one.shape == shapes[name] else one[rows] for name, one in every})
        write_merged(less, folder / self.name)
        left, before = (sum(parameter.numel() for parameter in network.parameters()) for network in networks)
        return left, before

    def written(self, folder):
        return folder / self.name


class _Folder(_Model):
    def __init__(self, path: Path, tokenizer: SentencePieceTokenizer):
        self.path, self.tokenizer = path, tokenizer

    def rows(self, tensors: Mapping[str, Any], ids: List[int], path: Path) -> Tuple[Tensors, Tuple[int, int]]:
        """Tensors with some rows of those that have one for each token; parameters left, and before.

        Raises:
            DataError: there are none, or of another number of tokens.
        """
        size, found, counts = len(self.tokenizer), {}, {"left": 0, "before": 0}
        index, seen = torch.tensor(ids), set()
        for name, tensor in tensors.items():
            if not isinstance(tensor, torch.Tensor):
                raise DataError(f"is a {type(tensor).__name__}, not a tensor", path, field=name)
            found[name] = tensor
            if ROWS.search(name):
                if not tensor.dim() or not size <= len(tensor) <= size + SPARE_ROWS:
                    message = (
                        f"tensor has shape {list(tensor.shape)} for the {size:,} tokens of {self.tokenizer.folder}"
                    )
                    raise DataError(message, path, field=name)
                found[name] = tensor[index]
            if tensor.data_ptr() not in seen:  # tied ones are counted once
                counts["left"] += found[name].numel()
                counts["before"] += tensor.numel()
                seen.add(tensor.data_ptr())
        if not any(ROWS.search(name) for name in found):
            raise DataError("holds no embedding of words; give an XLM-R", path)
        return found, (counts["left"], counts["before"])


class _Fairseq(_Folder):
    def write(self, ids, tokenizer, folder):
        path = self.path / FAIRSEQ_FILE
        content = WeightSource(path).state
        if not isinstance(content.get("model"), Mapping):
            raise DataError("is missing or no dictionary; give fairseq's model.pt of XLM-R", path, field="model")
        tensors, counts = self.rows(checked(content["model"], Dict[str, Any], path, "model"), ids, path)
        save_checkpoint({**content, "model": tensors, "last_optimizer_state": None}, folder / FAIRSEQ_FILE)
        return counts


class _HuggingFace(_Folder):
    def write(self, ids, tokenizer, folder):
        said = read_json(self.path / CONFIG_FILE, Dict[str, Any], "fetch it again", of_others=True)
        tensors, counts = self.rows(read_weights(self.path), ids, self.path)
        save_checkpoint(tensors, folder / WEIGHTS_FILE)
        write_json(folder / CONFIG_FILE, {**said, "vocab_size": len(ids)})
        return counts
