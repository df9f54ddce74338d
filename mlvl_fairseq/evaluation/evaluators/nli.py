"""Labels of texts about an image: is a hypothesis entailed by it (XVNLI)?"""

from dataclasses import dataclass
from functools import partial
from typing import Dict, List

import numpy as np

from mlvl_fairseq.data.examples import Examples
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.evaluators.base import option, register_evaluator
from mlvl_fairseq.evaluation.evaluators.labelled_examples import (
    NEVER,
    ExampleEvaluationOptions,
    ExampleEvaluator,
    Judged,
)
from mlvl_fairseq.evaluation.metrics.classification import ranks_of_scores
from mlvl_fairseq.evaluation.report.classes import draw_confusion
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.inference.examples import EncodedImages, label_scores, require_head


@dataclass(kw_only=True)
class LabelOptions(ExampleEvaluationOptions):
    classes: str = option(
        "labels in the order of the model's numbers, with commas, for a model that does not know them or files with "
        "other ones; by default those of its training, or of the format",
        "",
        identity=lambda names: names or None,
        metavar="LIST",
    )


class LabelEvaluator(ExampleEvaluator):
    """What accuracy of labels needs."""

    Options = LabelOptions
    options: LabelOptions

    def given_classes(self) -> List[str]:
        """Raises UserError: a label is there twice, or alone."""
        found = [name.strip() for name in self.options.classes.split(",") if name.strip()]
        if self.options.classes and (len(found) < 2 or len(set(found)) < len(found)):
            raise UserError(f"--classes {self.options.classes}: give at least two labels, each once: yes,no")
        return found

    def check(self, examples: Examples) -> None:
        if not examples.classes:
            raise UserError(f"{examples.path}: holds questions: mlvl-evaluate vqa scores it")
        super().check(examples)

    def require(self, encoder: Encoder) -> None:
        require_head(encoder, "labels", "--task image_text_classification")
        reads = encoder.network.fusion.views
        if reads != self.images_per_text:
            raise UserError(
                f"{encoder.source}: this model reads a text beside {reads} images, these examples have "
                f"{self.images_per_text}"
            )

    def _labels(self, encoder: Encoder, data: Examples) -> List[str]:
        """In the order of the model's numbers."""
        labels = self.given_classes() or list(encoder.choices) or list(data.classes)
        unknown = sorted(set(data.classes) - set(labels))
        if unknown:
            raise UserError(
                f"{encoder.source} was trained on the labels {','.join(labels)}: {data.path} has {unknown[0]}, too"
            )
        return labels

    def judge(self, encoder: Encoder, lang: str, data: Examples, images: EncodedImages) -> Judged:
        labels, examples = self._labels(encoder, data), data.examples
        scores = label_scores(
            encoder,
            images,
            [example.text for example in examples],
            [example.images for example in examples],
            lang,
            self.options.batch_size,
            f"{lang} examples",
        )
        if scores.shape[1] != len(labels):
            raise UserError(
                f"{encoder.source} has {scores.shape[1]} labels, not {len(labels)} ({','.join(labels)}): say with "
                "--classes which"
            )
        number: Dict = {label: place for place, label in enumerate(labels)}
        known = np.flatnonzero([example.label is not None for example in examples])
        right = np.array([number[examples[row].label] for row in known], np.int64)
        ranks, predicted = np.full(len(examples), NEVER, np.int64), scores.argmax(axis=1)
        ranks[known] = ranks_of_scores(scores[known], right)
        title = f"{self.options.split}, {lang}: {100 * np.mean(ranks == 0):.1f} % right"
        picture = partial(draw_confusion, names=labels, labels=right, predicted=predicted[known], title=title)
        return Judged(ranks, [labels[place] for place in predicted], {"confusion.png": picture})


@register_evaluator("nli")
class Nli(LabelEvaluator):
    """Accuracy of labels of texts about an image: entailment, contradiction or neutral (XVNLI of IGLUE).

    The model is one of fairseq-train --task image_text_classification, or of mlvl-convert cclm.

    accuracy: examples whose best label is the right one, in %. With --output-dir also LANG.SPLIT.said.csv (an example a
    row) and LANG.SPLIT.confusion.png. The average of several languages leaves English out.
    """

    images_per_text = 1
    examples = """\
  mlvl-evaluate nli --checkpoint xvnli.pt --lang en,ar,es,fr,ru --image-root images \\
      --examples 'iglue/datasets/XVNLI/annotations/{lang}/test.jsonl'
  # translate-test: what a machine translated to English
  mlvl-evaluate nli --checkpoint xvnli.pt --lang ar,es,fr,ru --image-root images --gmt \\
      --examples 'iglue/datasets/XVNLI/annotations_machine-translate/{lang}/test.jsonl'
"""
