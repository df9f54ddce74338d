"""Labels of texts about two images: is a statement true (NLVR2, MaRVL)?"""

from mlvl_fairseq.evaluation.evaluators.base import register_evaluator
from mlvl_fairseq.evaluation.evaluators.nli import LabelEvaluator


@register_evaluator("nlvr")
class Nlvr(LabelEvaluator):
    """Accuracy of labels of texts about two images: statements that are true or false (NLVR2, MaRVL of IGLUE).

    The model is one of fairseq-train --task image_text_classification, or of mlvl-convert cclm.

    accuracy: examples whose best label is the right one, in %. With --output-dir also LANG.SPLIT.said.csv (an example a
    row) and LANG.SPLIT.confusion.png. The average of several languages leaves English out.
    """

    images_per_text = 2
    examples = """\
  mlvl-evaluate nlvr --checkpoint nlvr.pt --lang id,sw,ta,tr,zh --image-root images \\
      --examples 'iglue/datasets/marvl/zero_shot/annotations/marvl-{lang}.jsonl'
"""
