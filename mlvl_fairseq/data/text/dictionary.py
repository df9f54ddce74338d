"""CLIP's vocabulary as a fairseq dictionary: ids are CLIP's, no symbol of fairseq's own is put before them."""

from typing import Iterable

from fairseq.data import Dictionary

from mlvl_fairseq.data.text.vocabulary import BOS_TOKEN, EOS_TOKEN
from mlvl_fairseq.errors import DataError


class ClipDictionary(Dictionary):
    """Identity ids; end of sentence, padding and unknown are all ``<|endoftext|>``, as in CLIP.

    Never derive a mask from ``tokens.ne(pad)``: the first ``<|endoftext|>`` is text, the others are padding.
    """

    def __init__(self):
        super().__init__(bos=BOS_TOKEN, pad=EOS_TOKEN, eos=EOS_TOKEN, unk=EOS_TOKEN, add_special_symbols=False)
        self.nspecial = 0

    @classmethod
    def load(cls, f, add_special_symbols=False):
        """Read fairseq's ``dict.txt``.

        Raises:
            DataError: the file is unreadable or lacks CLIP's two special tokens.
        """
        dictionary = cls()
        try:
            with open(f, encoding="utf-8") as file:  # fairseq itself would raise a bare Exception for bad encoding
                dictionary.add_from_file(file)
        except (ValueError, RuntimeError, OSError) as error:
            raise DataError(f"not a fairseq dictionary: {error}", f) from None
        dictionary._find_specials(f)
        return dictionary

    @classmethod
    def of(cls, tokens: Iterable[str]) -> "ClipDictionary":
        """The dictionary of a vocabulary's tokens, in the order of their ids."""
        dictionary = cls()
        for token in tokens:
            dictionary.add_symbol(token)
        dictionary._find_specials("vocabulary")
        return dictionary

    def _find_specials(self, source) -> None:
        missing = [token for token in (BOS_TOKEN, EOS_TOKEN) if token not in self.indices]
        if missing:
            raise DataError(f"no {' and no '.join(missing)}: not a dictionary that mlvl-prepare wrote", source)
        self.bos_index = self.indices[BOS_TOKEN]
        self.eos_index = self.pad_index = self.unk_index = self.indices[EOS_TOKEN]
