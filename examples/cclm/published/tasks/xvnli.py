"""What a hypothesis is to a picture: XVNLI of IGLUE."""

from published.configs import EVALUATED, NEW_HEAD, config
from published.examples import ExamplesTask
from published.finetuning import Files
from published.keys import only
from published.task import register_task

TESTS = ("ar", "en", "es", "fr", "ru")


@register_task("xvnli")
class Xvnli(ExamplesTask):
    evaluator = "nli"
    configs = {
        "XVNLI": config((12, 12, None), 80, 80, 10, tests=TESTS, start_eval=0, eval_interval=1),
        "XVNLI_fewshot": config((12, 12, None), 80, 80, 60, lr="1e-5", start_eval=9, eval_interval=10),
    }
    few_shot_config = "XVNLI_fewshot"
    files = Files(
        train="{IGLUE}/XVNLI/annotations/{lang}/train.jsonl",
        valid="{IGLUE}/XVNLI/annotations/{lang}/dev.jsonl",
        test="{IGLUE}/XVNLI/annotations/{lang}/test.jsonl",
        gmt="{IGLUE}/XVNLI/annotations_machine-translate/{lang}/test.jsonl",
        few_shot="{IGLUE}/XVNLI/annotations/{lang}/train_{shots}.jsonl",
        shots="48",
    )
    own = {**EVALUATED, **NEW_HEAD, "num_labels": only("3", 3)}
