"""CLIP's text pipeline: how a caption becomes words of byte symbols, before any BPE merge."""

from tokenizers import Regex, normalizers, pre_tokenizers

END_OF_WORD = "</w>"
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def normalizer() -> normalizers.Normalizer:
    """NFC, white space collapsed to one space, lower case."""
    return normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])


def pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """Contractions | runs of letters | single digits | runs of anything else, each mapped to printable bytes."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
