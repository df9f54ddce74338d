"""Statements about two pictures: trained on NLVR2, tested on it and on MaRVL of IGLUE."""

from published.configs import EVALUATED, NEW_HEAD, config
from published.examples import ExamplesTask
from published.finetuning import Files
from published.keys import only
from published.task import register_task

TESTS = ("en", "id", "sw", "ta", "tr", "zh")


@register_task("nlvr")
class Nlvr(ExamplesTask):
    arguments = ("NLVR2", "IGLUE", "IMAGES", "XLMR")
    evaluator = "nlvr"
    configs = {
        "NLVR": config((10, None, None), 30, None, 10, tests=TESTS, start_eval=6, eval_interval=1),
        "NLVR_fewshot": config((10, None, None), 30, None, 60, lr="1e-5", start_eval=9, eval_interval=10),
    }
    few_shot_config = "NLVR_fewshot"
    files = Files(
        train="{NLVR2}/nlvr_train.json",
        valid="{NLVR2}/nlvr_dev.json",
        test={"": "{IGLUE}/marvl/zero_shot/annotations/marvl-{lang}.jsonl", "en": "{NLVR2}/nlvr_test.json"},
        gmt="{IGLUE}/marvl/zero_shot/annotations_machine-translate/marvl-{lang}_gmt.jsonl",
        few_shot="{IGLUE}/marvl/few_shot/annotations/marvl-{lang}_train{shots}.jsonl",
        shots="10x2",
    )
    own = {**EVALUATED, **NEW_HEAD, "num_labels": only("2", 2)}
