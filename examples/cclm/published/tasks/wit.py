"""Retrieval among Wikipedia's pictures, trained in English: WIT of IGLUE, with the pictures that Kaggle has."""

import os
from dataclasses import replace

from mlvl_fairseq.errors import UserError
from published.configs import EVALUATED, config
from published.finetuning import Files
from published.retrieval import RetrievalTask
from published.task import register_task

TESTS = ("ar", "bg", "da", "el", "en", "et", "id", "ja", "ko", "tr", "vi")
TRAIN_PIXELS, TEST_PIXELS = "image_data_train/image_pixels", "wit_test"
FOLDER = "wit"


@register_task("wit")
class Wit(RetrievalTask):
    arguments = ("IGLUE", "IMAGES", "XLMR")
    configs = {"WIT": config((8, 12, 64), 80, 80, 5, tests=TESTS, k_test=128, start_eval=3)}
    files = Files(
        train="{IGLUE}/wit/annotations/train_{lang}.jsonl",
        valid="{IGLUE}/wit/annotations/val_{lang}.jsonl",
        test="{IGLUE}/wit/annotations/test_{lang}.jsonl",
        gmt="{IGLUE}/wit/annotations_machine-translate/test_{lang}_gmt.jsonl",
    )
    own = {**RetrievalTask.own, **EVALUATED}

    def images(self, setting):
        return os.path.join(setting.out, FOLDER)

    def setting(self, call):
        """Raises UserError: a folder of pixels is missing."""
        setting = super().setting(call)
        for folder in [TEST_PIXELS, *([] if call.flags.evaluate else [TRAIN_PIXELS])]:
            path = os.path.join(self._argument(call, "IMAGES"), folder)
            if not os.path.isdir(path):
                raise UserError(f"{path}: no such folder of Kaggle's tables of pixels: mend the argument IMAGES")
        return setting

    def before(self, setting, shell):
        """Lists with their pictures in OUT/wit, where later runs find them."""
        joined = {}
        for name, pixels in (("train", TRAIN_PIXELS), ("valid", TRAIN_PIXELS), ("tests", TEST_PIXELS)):
            lists = getattr(setting, name)
            joined[name] = {lang: os.path.join(self.images(setting), unpacked(path)) for lang, path in lists.items()}
            waiting = [path for lang, path in lists.items() if not os.path.exists(joined[name][lang])]
            if waiting:
                tables = os.path.join(self._argument(setting.call, "IMAGES"), pixels)
                shell.run("mlvl-convert", "wit-pixels", *waiting, self.images(setting), "--pixels", tables)
        return replace(setting, **joined)


def unpacked(path):
    """The name that mlvl-convert gives a list."""
    return os.path.basename(path).removesuffix(".zip").removesuffix(".gz")
