"""As nlvr, of a model that has learned first which of two pictures a caption is of."""

import os

from published.task import register_task
from published.tasks.nlvr import Nlvr

FOLDER, RECIPE = "domain", "cclm_which_image"


@register_task("nlvr_domain")
class NlvrDomain(Nlvr):
    arguments = ("IMAGE_TEXT", *Nlvr.arguments)

    @property
    def refused(self):
        return {flag: why for flag, why in super().refused.items() if flag != "load_ckpt_from"}

    def start(self, setting, shell):
        flags = setting.call.flags
        if flags.load_ckpt_from:
            return flags.load_ckpt_from
        folder = os.path.join(setting.out, FOLDER)
        words = ["--image-text", self._argument(setting.call, "IMAGE_TEXT"), "--init-from", flags.checkpoint]
        words += ["--tokenizer-folder", self._argument(setting.call, "XLMR"), "--save-dir", folder]
        words += setting.devices.words
        words += ["--seed", str(flags.seed)] if flags.seed is not None else []
        quirks = [f"+reference={RECIPE}"] if setting.call.reference else []
        recipe = f"{RECIPE}_small" if setting.call.small else RECIPE
        shell.train(recipe, quirks, [*words, *setting.call.options], setting.devices.environment)
        return os.path.join(folder, "checkpoint_last.pt")
