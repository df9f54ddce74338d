"""Retrieval among MS-COCO's pictures in English, Chinese (COCO-CN) and Japanese (YJCaptions)."""

from published.configs import config
from published.finetuning import Files
from published.retrieval import RetrievalTask
from published.task import register_task

LANGUAGES = ("en", "zh", "ja")


def of(*languages, batches=(10, 6, 32), tests=()):
    return config(batches, 30, 40, 10, languages=languages, tests=tests or languages, k_test=256)


@register_task("itr_coco")
class Coco(RetrievalTask):
    arguments = ("DATA", "IMAGES", "XLMR")
    configs = {
        "Retrieval_coco_en_ft": of("en", tests=LANGUAGES, batches=(20, 12, 64)),
        **{f"Retrieval_coco_{lang}_ft": of(lang) for lang in LANGUAGES[1:]},
        "Retrieval_coco_all_ft": of(*LANGUAGES),
    }
    files = Files(
        train="{DATA}/{lang}.train.json",
        valid={"": "{DATA}/{lang}.valid.json", "zh": "{DATA}/zh.val.json"},
        test={"": "{DATA}/{lang}.1k_test.json", "zh": "{DATA}/zh.test.json"},
    )
