"""Classes of texts beside images: what a hypothesis is to a picture (XVNLI), whether a statement about two pictures is
true (NLVR2, MaRVL)."""

from dataclasses import dataclass, field
from typing import List

from fairseq.tasks import register_task

from mlvl_fairseq.data.examples.targets import LabelTargets
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.options import with_options
from mlvl_fairseq.tasks._examples import EXAMPLE_PARTS, ExamplesTask, ExampleTaskOptions


@dataclass
class ClassOptions(ExampleTaskOptions):
    classes: str = field(
        default="",
        metadata={
            "help": "labels in the order of their numbers, with commas; empty: those of the format: "
            "contradiction,entailment,neutral or False,True"
        },
    )


ImageTextClassificationConfig = with_options(ClassOptions, EXAMPLE_PARTS)


@register_task("image_text_classification", dataclass=ImageTextClassificationConfig)
class ImageTextClassificationTask(ExamplesTask):
    """Train model ``cclm`` with criterion ``image_classification`` on head ``labels``. Beside ``net_input`` a batch has
    ``labels`` int64 [B].

    Attributes:
        classes: labels in the order of the head's rows.
    """

    heads = "labels"
    classes: List[str] = []

    def __init__(self, cfg, tokenizer, images, train):
        self.classes = list(train[0].classes)
        super().__init__(cfg, tokenizer, images, train)
        self.state.merge_state_dict({"classes": self.classes})

    @classmethod
    def given_classes(cls, cfg):
        """Raises UserError: fewer than two, or one twice."""
        found = [label.strip() for label in cfg.classes.split(",") if label.strip()]
        if cfg.classes and (len(found) < 2 or len(set(found)) < len(found)):
            raise UserError(f"--classes {cfg.classes}: give at least two labels, each once: yes,no")
        return found

    def check(self, files):
        super().check(files)
        for file in files:
            if not file.classes:
                raise UserError(f"{file.path}: holds questions: train with --task visual_question_answering")
            if list(file.classes) != self.classes:
                raise UserError(f"{file.path}: has the labels {','.join(file.classes)}, not {','.join(self.classes)}")

    def targets(self, training):
        return LabelTargets(self.classes)
