"""Fine-tuning of the published program: training on a language, then the test files of all, as our commands."""

import math
import os
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Dict, List, Mapping, Optional, Tuple, Union

from mlvl_fairseq.data.language_files import LANG
from mlvl_fairseq.digests import file_sha256
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.files import write_json
from mlvl_fairseq.json_files import read_json
from published.annotations import FewShot, datasets, few_shot, found, one_pattern
from published.configs import KEYS, NUMBERS, SCHEDULE, VARYING, Config
from published.flags import Call, Devices, batch_of_one, devices, shared_values
from published.keys import Key, given_values, require_number, yaml_value
from published.pretraining import tokenizer
from published.shell import Shell
from published.task import Task

IGLUE = "IGLUE"
CLAIM = "trained_on.json"  # in the output folder: checksums of what its training is about
MODEL = "cclm-base-ft"
Template = Union[str, Mapping[str, str]]  # with {ARGUMENT} in front; {language: template}, "" of all others


@dataclass(frozen=True)
class Files:
    """Where annotations are, with ``{lang}``, below an argument: ``{IGLUE}/XVNLI/annotations/{lang}/test.jsonl``.

    Attributes:
        train, valid, test: as they are called. gmt: tests that a machine translated to English. few_shot: with
            ``{shots}``; shots: what stands for it where the flag does not say. few_shot_valid: beside them. None: there
            are none.
    """

    train: Template
    valid: Template
    test: Template
    gmt: Optional[Template] = None
    few_shot: Optional[str] = None
    shots: str = ""
    few_shot_valid: Optional[str] = None


@dataclass(frozen=True)
class Setting:
    """What is to be done.

    Attributes:
        given: values of keys that were asked for. values: likewise, and the published ones of the configuration.
        few: the few-shot file, if it is about one. train, valid, tests: language -> file.
    """

    call: Call
    config: Config
    given: Mapping[str, Any]
    values: Mapping[str, Any]
    devices: Devices
    few: Optional[FewShot]
    train: Mapping[str, str]
    valid: Mapping[str, str]
    tests: Mapping[str, str]

    @property
    def out(self) -> str:
        return self.call.flags.output_dir

    @property
    def published(self) -> bool:
        """Whether the configuration's own values count, not only those that were asked for."""
        return not self.call.small


@dataclass(frozen=True)
class TrainingData:
    """Attributes: words: of fairseq-train, that say where it is. rows: how many examples there are."""

    words: List[str]
    rows: int


class FineTuning(Task):
    """Attributes:
    recipe: of ours. evaluator: of mlvl-evaluate. pattern_option: of it, that takes test files.
    configs: published configuration -> what it says; the first is the default. few_shot_config: the one of few-shot.
    files: where they are. own: keys of this task only.
    """

    recipe: ClassVar[str]
    evaluator: ClassVar[str]
    pattern_option: ClassVar[str]
    configs: ClassVar[Mapping[str, Config]]
    few_shot_config: ClassVar[str] = ""
    files: ClassVar[Files]
    own: ClassVar[Mapping[str, Key]] = {}
    no_few_shot = "there are no few-shot files; xvnli, gqa, nlvr and xflickrco have some"
    no_gmt = "there are no machine-translated tests; xvnli, nlvr, xflickrco and wit have some"

    @property
    def refused(self) -> Mapping[str, str]:
        why = {"output_hdfs": "HDFS is not written from here; copy --output_dir", "load_ckpt_from": "of nlvr_domain"}
        why.update({} if self.files.few_shot else {"fewshot": self.no_few_shot})
        return {**why, **({} if self.files.gmt else {"gmt": self.no_gmt})}

    @property
    def keys(self) -> Mapping[str, Key]:
        return {**KEYS, **self.own}

    def run(self, call: Call, shell: Shell) -> None:
        setting = self.before(self.setting(call), shell)
        checkpoint = call.flags.checkpoint if call.flags.evaluate else self.train(setting, shell)
        self.evaluate(setting, checkpoint, shell)

    def before(self, setting: Setting, shell: Shell) -> Setting:
        """What has to be done before anything else; the files as they are then. Nothing by default."""
        return setting

    def start(self, setting: Setting, shell: Shell) -> str:
        """The checkpoint that training starts from."""
        return setting.call.flags.checkpoint

    @abstractmethod
    def data(self, setting: Setting, shell: Shell) -> TrainingData:
        """What is trained on, made ready."""

    @abstractmethod
    def images(self, setting: Setting) -> str:
        """The folder of images."""

    def setting(self, call: Call) -> Setting:
        """Raises UserError: something is missing or does not go together."""
        flags = call.flags
        self._check(flags)
        tokenizer(self._argument(call, "XLMR"))
        few = None
        if flags.fewshot:
            if flags.gmt:
                raise UserError("--gmt: without --fewshot; what was trained on a language is asked in it")
            place = self.place(call, self.files.few_shot)
            few = few_shot(flags.fewshot, place, self.files.shots, IGLUE)
        config = self._config(flags, few)
        if not (flags.dist or call.small):
            raise UserError("say with --dist on which GPUs: 1 (8 of this machine), f4, l4 or gpuN")
        own = devices(flags.dist) if flags.dist else Devices({}, 1, [])
        given = shared_values(flags, given_values(call.overrides, self.keys))
        batch = batch_of_one(flags, own.processes)
        if batch:
            given.setdefault("batch_size_train", batch)
        values = {**{key: yaml_value(text) for key, text in config.values.items()}, **given}
        for key, least in NUMBERS.items():
            if key in values:
                require_number(values, key, least)
        train, valid, tests = self._annotations(call, config, few)
        places = {"the argument IMAGES": self._argument(call, "IMAGES")}
        places.update({f"--{flag}": getattr(flags, flag) for flag in ("checkpoint", "load_ckpt_from")})
        for name, path in places.items():
            if path and not os.path.exists(path):
                raise UserError(f"{path}: no such file or folder: mend {name}")
        return Setting(call, config, given, values, own, few, train, valid, tests)

    def _check(self, flags) -> None:
        if flags.model not in (None, MODEL):
            raise UserError(f"--model {flags.model}: there is {MODEL}")
        if not flags.output_dir:
            raise UserError("say with --output_dir where checkpoints and scores are to be")
        if not flags.checkpoint and (flags.evaluate or not flags.load_ckpt_from):
            raise UserError("say with --checkpoint which model to start from, or to evaluate")

    def _config(self, flags, few: Optional[FewShot]) -> Config:
        name = os.path.basename(flags.config or next(iter(self.configs))).removesuffix(".yaml")
        if name not in self.configs:
            there = ", ".join(f"{one}.yaml" for one in self.configs)
            raise UserError(f"--config {flags.config}: {self.name} has {there}")
        if few:
            return self.configs[self.few_shot_config]
        if name == self.few_shot_config:
            raise UserError(f"--config {flags.config}: say with --fewshot LANG,SHOTS which examples")
        return self.configs[name]

    def _argument(self, call: Call, name: str) -> str:
        return call.arguments[self.arguments.index(name)]

    def place(self, call: Call, template: Template, lang: str = "") -> str:
        """A template with its argument filled in; `{lang}` stays where no language is given."""
        text = template if isinstance(template, str) else template.get(lang, template[""])
        for name, path in zip(self.arguments, call.arguments):
            text = text.replace(f"{{{name}}}", datasets(path) if name == IGLUE else path)
        return text.replace(LANG, lang) if lang else text

    def _annotations(self, call: Call, config: Config, few: Optional[FewShot]) -> Tuple[Dict[str, str], ...]:
        """Files to train on, to validate on and to test on, each found."""
        files, tested = self.files, (few.lang,) if few else config.tests
        gmt = call.flags.gmt
        tested = [lang for lang in tested if not gmt or lang != "en"]
        tests = {lang: self._found(call, files.gmt if gmt else files.test, lang) for lang in tested}
        if call.flags.evaluate:
            return {}, {}, tests
        if not few:
            train, valid = (
                {lang: self._found(call, one, lang) for lang in config.languages} for one in (files.train, files.valid)
            )
            return train, valid, tests
        if call.reference:
            valid = tests  # as published
        else:
            valid = {few.lang: self._found(call, files.few_shot_valid, few.lang)} if files.few_shot_valid else {}
        return {few.lang: few.path}, valid, tests

    def _found(self, call: Call, template: Template, lang: str) -> str:
        text = template if isinstance(template, str) else template.get(lang, template[""])
        return found(self.place(call, text, lang), text.partition("}")[0].lstrip("{"))

    def train(self, setting: Setting, shell: Shell) -> str:
        """The checkpoint that is to be evaluated: of the best epoch, or of the last one where nothing tells."""
        call, data = setting.call, self.data(setting, shell)
        claim(setting)
        words = [*data.words, "--init-from", self.start(setting, shell), "--save-dir", setting.out]
        words += ["--tokenizer-folder", self._argument(call, "XLMR"), *setting.devices.words]
        words += ["--seed", call.flags.seed] if call.flags.seed is not None else []
        words += [] if setting.valid else ["--disable-validation"]
        words += [*self.option_words(setting), *schedule(setting, data.rows), *call.options]
        quirks = [f"+reference={self.recipe}"] if call.reference else []
        shell.train(f"{self.recipe}{'_small' if call.small else ''}", quirks, words, setting.devices.environment)
        chosen = setting.valid and "--disable-validation" not in call.options
        return os.path.join(setting.out, "checkpoint_best.pt" if chosen else "checkpoint_last.pt")

    def option_words(self, setting: Setting) -> List[str]:
        """Of fairseq-train: keys that were asked for and, of the published recipe, those that configurations differ
        in."""
        wanted = [key for key in self.keys if key in setting.given or setting.published and key in VARYING]
        keys = [key for key in wanted if key in setting.values and key not in SCHEDULE]
        return [word for key in keys for word in self.keys[key].words(setting.values[key])]

    def evaluate(self, setting: Setting, checkpoint: str, shell: Shell) -> None:
        call, keys = setting.call, self.keys
        gmt = call.flags.gmt
        out = os.path.join(setting.out, "scores_gmt" if gmt else "scores")
        pattern = one_pattern(setting.tests, os.path.join(setting.out, "annotations"), "test")
        words = ["--checkpoint", checkpoint, "--lang", ",".join(setting.tests), self.pattern_option, pattern]
        words += ["--image-root", self.images(setting), "--output-dir", out, "--device", device(call)]
        words += ["--gmt"] if gmt else []
        shown = setting.values if setting.published else setting.given
        wanted = {key: value for key, value in shown.items() if key in setting.given or key == "k_test"}
        words += [word for key, value in wanted.items() for word in keys[key].words(value, "evaluate")]
        words += self.evaluation_words(setting)
        words += [word for word in call.options if word != "--cpu"] if call.flags.evaluate else []
        shell.run("mlvl-evaluate", self.evaluator, *words, environment=setting.devices.environment)

    def evaluation_words(self, setting: Setting) -> List[str]:
        """Further options of mlvl-evaluate. None by default."""
        return []


def claim(setting: Setting) -> None:
    """Mark the folder as one of this training, which goes on there when it is started again.

    Raises:
        UserError: it is of another one. DataError: a file cannot be read.
    """
    path, flags = os.path.join(setting.out, CLAIM), setting.call.flags
    files = {**setting.train, "--checkpoint": flags.checkpoint or ""}
    files = {name: file for name, file in files.items() if os.path.isfile(file)}  # what is missing is told elsewhere
    said = {name: file_sha256(file) for name, file in files.items()}
    if not os.path.exists(path):
        os.makedirs(setting.out, exist_ok=True)
        write_json(path, said)
        return
    there = read_json(path, Dict[str, str], "delete the folder")
    for name in sorted(there.keys() | said.keys()):
        if there.get(name) != said.get(name):
            raise UserError(
                f"{setting.out} holds another training, with other content of {name} (now: {files.get(name, 'none')}): "
                "choose another --output_dir, or delete it"
            )


def device(call: Call) -> str:
    """Where evaluation computes: as fairseq-train chooses."""
    if "--cpu" in call.options:
        return "cpu"
    import torch  # here: it takes seconds

    return "cuda" if torch.cuda.is_available() else "cpu"


def schedule(setting: Setting, rows: int) -> List[str]:
    """Epochs, and from their number the updates, as the published program counts them: a remainder is a batch, too. Of
    the small recipe only what was asked for."""
    values, words = setting.values, []
    if setting.published or "schedular.epochs" in setting.given:
        words += ["--max-epoch", values["schedular.epochs"]]
    if setting.published:
        epochs, warmup = values["schedular.epochs"], values["schedular.num_warmup_steps"]
        updates = math.ceil(rows / (values["batch_size_train"] * setting.devices.processes))
        total = epochs * updates
        words += ["--total-num-update", total, "--warmup-updates", int(total * warmup) if warmup < 1 else warmup]
        if setting.valid and "start_eval" in values:
            words += ["--validate-after-updates", min(values["start_eval"] + 1, epochs) * updates]
    return list(map(str, words))
