"""How the texts of an evaluation are read."""

from dataclasses import dataclass, replace
from typing import Dict, Optional

from mlvl_fairseq.evaluation.evaluators.base import option
from mlvl_fairseq.inference.encoder import Encoder

ENGLISH = "en"
TEXT = "text"  # key of signatures
TEXT_KEY = {TEXT: "'mt-en': English, translated by a machine"}


@dataclass(kw_only=True)
class TextReadingOptions:
    max_words: Optional[int] = option(
        "cut texts to so many words, once they are cleaned; 0: do not; by default as the model was validated in "
        "training (CCLM as published: 80, for Multi30k, COCO and MaRVL 30, for questions 50)",
        None,
        metavar="N",
        least=0,
    )
    gmt: bool = option(
        "translate-test: the files of --lang hold English, translated by a machine; it is read as English",
        False,
        identity=lambda translated: translated or None,
    )

    def read_by(self, encoder: Encoder) -> Encoder:
        """The model, which cuts texts as options say.

        Raises:
            UserError: its tokenizer takes texts as they are.
        """
        if self.max_words is None:
            return encoder
        return replace(encoder, tokenizer=encoder.tokenizer.of_words(self.max_words))

    def read_in(self, lang: str) -> str:
        """The language that texts are in whose files are those of `lang`."""
        return ENGLISH if self.gmt else lang

    def text_keys(self) -> Dict[str, str]:
        """What signatures say of it."""
        return {TEXT: "mt-en"} if self.gmt else {}
