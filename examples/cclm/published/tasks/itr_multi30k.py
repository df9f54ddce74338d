"""Retrieval among Multi30K's pictures in four languages."""

from published.configs import config
from published.finetuning import Files
from published.retrieval import RetrievalTask
from published.task import register_task

LANGUAGES = ("en", "de", "fr", "cs")


def of(*languages, batches=(10, 6, 32), tests=()):
    return config(batches, 30, 40, 10, languages=languages, tests=tests or languages, k_test=128)


@register_task("itr_multi30k")
class Multi30k(RetrievalTask):
    arguments = ("DATA", "IMAGES", "XLMR")
    configs = {
        "Retrieval_multi30k_en_ft": of("en", tests=LANGUAGES),
        **{f"Retrieval_multi30k_{lang}_ft": of(lang) for lang in LANGUAGES[1:]},
        "Retrieval_multi30k_all_ft": of(*LANGUAGES, batches=(20, 12, 64)),
    }
    files = Files(
        train="{DATA}/train.{lang}.json", valid="{DATA}/val.{lang}.json", test="{DATA}/test_2016_flickr.{lang}.json"
    )
