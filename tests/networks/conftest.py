import golden_cclm
import pytest

from mlvl_fairseq.data.text.sentencepiece import train_sentencepiece


@pytest.fixture(scope="session")
def sentencepiece(tmp_path_factory):
    """A tokenizer of as many tokens as the small text encoder has."""
    folder = tmp_path_factory.mktemp("spm")
    syllables = [first + second for first in "bcdfghklmnprstvwz" for second in "aeiou"]
    words = [syllables[i % 85] + syllables[i * 7 % 83] + "lmnrs"[i % 5] for i in range(400)]
    (folder / "text").write_text("\n".join(words), encoding="utf-8")
    train_sentencepiece([folder / "text"], folder, golden_cclm.VOCABULARY - 2)
    return folder
