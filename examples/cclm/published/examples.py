"""Fine-tuning on examples, each a text about images with a label or answers."""

from typing import ClassVar, List

from published.finetuning import FineTuning, Setting, TrainingData
from published.shell import Shell

LONGEST = 512  # tokens, where the published program sets no limit; the table of positions has 514 rows


class ExamplesTask(FineTuning):
    arguments = ("IGLUE", "IMAGES", "XLMR")
    pattern_option = "--examples"
    recipe: ClassVar[str] = "cclm_entailment"

    def images(self, setting: Setting) -> str:
        return self._argument(setting.call, "IMAGES")

    def data(self, setting: Setting, shell: Shell) -> TrainingData:
        (train,) = setting.train.values()
        words = ["--examples", train, "--image-root", self.images(setting)]
        words += ["--valid-examples", *setting.valid.values()] if setting.valid else []
        if setting.published:
            words += ["--max-words", setting.config.words]
            words += [] if "max_tokens" in setting.values else ["--max-length", LONGEST]
        rows = count(train) if setting.published else 0  # the small recipe's schedule is its own
        return TrainingData([*words, *self.training_words(setting)], rows)

    def training_words(self, setting: Setting) -> List[str]:
        """Further options of fairseq-train. None by default."""
        return []

    def evaluation_words(self, setting: Setting) -> List[str]:
        return ["--unlabelled", "reference"] if setting.call.reference else []


def count(path: str) -> int:
    """How many examples a file has that can be trained on."""
    from mlvl_fairseq.data.examples import read_examples  # here: it takes seconds, and errors should not

    return len(read_examples(path))
