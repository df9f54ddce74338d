"""CLIP's vocabulary as a fairseq dictionary: ids are CLIP's, no symbol of fairseq's own is put before them."""

from fairseq.data import Dictionary

from mlvl_fairseq.data.text import BOS_TOKEN, EOS_TOKEN, Vocabulary
from mlvl_fairseq.errors import DataError
from mlvl_fairseq.files import write_text


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
        missing = [token for token in (BOS_TOKEN, EOS_TOKEN) if token not in dictionary.indices]
        if missing:
            raise DataError(f"no {' and no '.join(missing)}: not a dictionary that mlvl-prepare wrote", f)
        dictionary.bos_index = dictionary.indices[BOS_TOKEN]
        dictionary.eos_index = dictionary.pad_index = dictionary.unk_index = dictionary.indices[EOS_TOKEN]
        return dictionary


def write_dictionary(path, vocabulary: Vocabulary) -> None:
    """Write ``dict.txt`` (token, count) with one line a token in the order of ids; counts are not used."""
    write_text(path, "".join(f"{token} 1\n" for token in vocabulary.tokens))
