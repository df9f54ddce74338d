"""Pre-training on captions in six languages, boxes in images, and parallel text."""

from published.pretraining import Pretraining
from published.task import register_task


@register_task("pretrain_cclm_4m")
class Pretrain4M(Pretraining):
    arguments = ("IMAGE_TEXT", "REGIONS", "PARALLEL_TEXT", "XLMR", "IMAGE_WEIGHTS")
    streams = ("image-text", "regions", "parallel-text")
    recipe = "cclm_4m"
    number = 1
