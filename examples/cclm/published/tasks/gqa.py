"""Questions about a picture: trained on GQA, asked of xGQA of IGLUE."""

from published.annotations import found
from published.configs import EVALUATED, NO_NEW_HEAD, config
from published.examples import ExamplesTask
from published.finetuning import IGLUE, Files
from published.keys import Key, argument, option
from published.task import register_task

TESTS = ("bn", "de", "en", "id", "ko", "pt", "ru", "zh")
BATCHES = (32, 4, None)
ANSWERS = "{IGLUE}/gqa/annotations/trainval_ans2label.json"
TEST_WORDS = 50  # that questions are cut to in tests


@register_task("gqa")
class Gqa(ExamplesTask):
    recipe = "cclm_questions"
    evaluator = "vqa"
    configs = {
        "GQA": config(BATCHES, 30, 40, 5, tests=TESTS, k_test=128, start_eval=2, eval_interval=1),
        "GQA_fewshot": config(BATCHES, 30, 40, 60, lr="1e-5", k_test=128, start_eval=9, eval_interval=10),
    }
    few_shot_config = "GQA_fewshot"
    files = Files(
        train="{IGLUE}/gqa/annotations/train.json",
        valid="{IGLUE}/gqa/annotations/valid.json",
        test="{IGLUE}/xGQA/annotations/few_shot/{lang}/test.json",
        few_shot="{IGLUE}/xGQA/annotations/few_shot/{lang}/train_{shots}.json",
        shots="48",
        few_shot_valid="{IGLUE}/xGQA/annotations/few_shot/{lang}/dev.json",
    )
    own = {
        **EVALUATED,
        **NO_NEW_HEAD,
        "k_test": Key(None, "`--answer-candidates`, `mlvl-evaluate vqa --rank-k`", "--answer-candidates", "--rank-k"),
        "num_dec_layers": option("6", "--decoder-layers"),
        "answer_list": argument("trainval_ans2label.json", "found in IGLUE's folder of GQA: `--answer-list`"),
        "vqa_root": argument("images/gqa/", "IMAGES"),
    }

    def _answers(self, call):
        return found(self.place(call, ANSWERS), IGLUE)

    def setting(self, call):
        self._answers(call)
        return super().setting(call)

    def training_words(self, setting):
        return ["--answer-list", self._answers(setting.call)]

    def evaluation_words(self, setting):
        first = ["--first-piece", "reference"] if setting.call.reference else []
        return ["--answers", self._answers(setting.call), *first]
