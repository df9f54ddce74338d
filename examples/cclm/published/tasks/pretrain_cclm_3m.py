"""Pre-training on captions in six languages and parallel text."""

from published.pretraining import Pretraining
from published.task import register_task


@register_task("pretrain_cclm_3m")
class Pretrain3M(Pretraining):
    arguments = ("IMAGE_TEXT", "PARALLEL_TEXT", "XLMR", "IMAGE_WEIGHTS")
    streams = ("image-text", "parallel-text")
    recipe = "cclm"
