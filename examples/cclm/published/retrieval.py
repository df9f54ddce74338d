"""Fine-tuning for retrieval: captions become a corpus first."""

import os
from typing import List

from published.annotations import one_pattern
from published.configs import NO_NEW_HEAD, PROJECTIONS
from published.finetuning import FineTuning, Setting, TrainingData
from published.keys import Key
from published.shell import Shell

CLEANING = ["--cleaning", "cclm"]


class RetrievalTask(FineTuning):
    recipe = "cclm_retrieval"
    evaluator = "rerank"
    pattern_option = "--captions"
    own = {
        **PROJECTIONS,
        **NO_NEW_HEAD,
        "k_test": Key(None, "`mlvl-evaluate rerank --rerank-k`", evaluate="--rerank-k"),
    }

    def images(self, setting: Setting) -> str:
        return self._argument(setting.call, "IMAGES")

    def data(self, setting: Setting, shell: Shell) -> TrainingData:
        langs, folder, call = list(setting.train), os.path.join(setting.out, "corpus"), setting.call
        links = os.path.join(setting.out, "annotations")
        words = ["--languages", ",".join(langs), "--image-root", self.images(setting)]
        for split, files in (("train", setting.train), ("valid", setting.valid)):
            words += [f"--{split}", one_pattern(files, links, split)] if files else []
        cleaning = CLEANING if setting.published or call.reference else []
        shell.run("mlvl-prepare", folder, *words, "--sentencepiece", self._argument(call, "XLMR"), *cleaning)
        rows = sum(count(folder, lang) for lang in langs) if setting.published else 0
        return TrainingData([folder, "--langs", ",".join(langs), *cleaning], rows)

    def evaluation_words(self, setting: Setting) -> List[str]:
        words = ["--max-words", str(setting.config.words)] if setting.published else []
        return [*words, *(["--rest", "reference"] if setting.call.reference else [])]


def count(folder: str, lang: str) -> int:
    """How many captions of a language a corpus has to train on."""
    from mlvl_fairseq.data.corpus import Corpus  # here: it takes seconds, and errors should not

    return len(Corpus(folder).rows("train", lang))
