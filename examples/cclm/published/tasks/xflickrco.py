"""Retrieval, trained on English Flickr30k, tested on xFlickr&CO of IGLUE."""

from published.configs import EVALUATED, config
from published.finetuning import Files
from published.retrieval import RetrievalTask
from published.task import register_task

TESTS = ("de", "en", "es", "id", "ja", "ru", "tr", "zh")
BATCHES = (8, 12, 64)


@register_task("xflickrco")
class XflickrCo(RetrievalTask):
    arguments = ("IGLUE", "IMAGES", "XLMR")
    configs = {
        "xFlickrCO": config(BATCHES, 80, 80, 10, tests=TESTS, k_test=128, start_eval=7, eval_interval=1),
        "xFlickrCO_fewshot": config(BATCHES, 80, 80, 60, lr="1e-5", k_test=128, start_eval=9, eval_interval=10),
    }
    few_shot_config = "xFlickrCO_fewshot"
    files = Files(
        train="{IGLUE}/flickr30k/annotations/train_ann.jsonl",
        valid="{IGLUE}/flickr30k/annotations/valid_ann.jsonl",
        test="{IGLUE}/xFlickrCO/annotations/{lang}/test.jsonl",
        gmt="{IGLUE}/xFlickrCO/annotations_machine-translate/{lang}/test_gmt.jsonl",
        few_shot="{IGLUE}/xFlickrCO/annotations/{lang}/train_{shots}.jsonl",
        shots="100",
    )
    own = {**RetrievalTask.own, **EVALUATED}
