"""The second part of examples/cclm/run_generated.sh: which commands it gives, and tasks_table.py, the table of it."""

import csv
import importlib.util
import json
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from fairseq import options

import mlvl_fairseq
from mlvl_fairseq.cli import evaluate

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "cclm"
RECORD = """#!{python} -IS
import json, sys
with open({log!r}, "a") as log:
    print(json.dumps([{name!r}, *sys.argv[1:]]), file=log)
"""
DRAW = """
import pathlib
world = pathlib.Path(sys.argv[1])
tasks = ("entailment", "jsonl", "jsonl"), ("questions", "json", "json"), ("statements", "json", "jsonl")
for task, train, other in tasks:
    folder = world / "examples" / task
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"train.en.{train}").touch()
    for split in ("few", "valid", "test"):
        for lang in ("en", "de", "es", "cs", "ru"):
            (folder / f"{split}.{lang}.{other}").touch()
"""
EVALUATORS = {"entailment": "nli", "questions": "vqa", "statements": "nlvr"}


@pytest.fixture
def call(stubs):
    """``call(**environment)``: the commands given, without names; and those of fairseq-train as arguments."""
    for name in ("mlvl-picture-world", "mlvl-sentencepiece", "fairseq-train", "mlvl-evaluate", "python"):
        text = RECORD.format(python=sys.executable, log=str(stubs.log), name=name)
        stubs.add(name, text + (DRAW if name == "mlvl-picture-world" else ""))
    stubs.add("mlvl-path", f"#!/bin/sh\necho {Path(mlvl_fairseq.__file__).parent}\n")

    def script(**environment):
        _, lines = stubs.run(FOLDER / "run_generated.sh", "out", JOBS="1", **environment)
        trained = [words for name, *words in lines if name == "fairseq-train"]
        trained = [options.parse_args_and_arch(options.get_training_parser(), words) for words in trained]
        commands = defaultdict(list)
        for name, *words in lines:
            commands[name].append(words)
        return commands, trained

    return script


def test_tasks_are_learned_in_english_then_in_a_few_examples_and_asked_in_all_languages(call):
    commands, trained = call(ARMS="four_streams", FEW_LANGUAGES="es ru", TASK_UPDATES="70", FEW_LR="2e-5", SEEDS="3 4")
    # two trainings, two evaluations each
    (draw,) = commands["mlvl-picture-world"]
    assert draw[draw.index("--examples") + 1 :][:3] == ["6000", "--few", "48"]
    tuned = [args for args in trained if args.task in ("image_text_classification", "visual_question_answering")]
    assert len(trained) == 3 + 9 and len(tuned) == 9
    asked = [evaluate.build_parser(words[0]).parse_args(words[1:]) for words in commands["mlvl-evaluate"][4:]]
    evaluators = [words[0] for words in commands["mlvl-evaluate"][4:]]
    for number, (task, evaluator) in enumerate(EVALUATORS.items()):
        english, *few = tuned[3 * number : 3 * number + 3]
        folder, data = f"out/tasks/four_streams/{task}", f"out/world/examples/{task}"
        train, other = (".jsonl" if task == "entailment" else ".json"), (".json" if task == "questions" else ".jsonl")
        assert (english.examples, english.valid_examples) == (f"{data}/train.en{train}", f"{data}/valid.en{other}")
        assert english.init_from == "out/rows/four_streams/seed3/checkpoint_last.pt" and not english.augment
        assert (english.save_dir, english.max_update, english.lr) == (f"{folder}/zero_shot", 70, [1e-3])
        assert english.best_checkpoint_metric == "accuracy" and english.tokenizer_folder == "out/pieces"
        for args, lang in zip(few, ("es", "ru"), strict=True):
            assert (args.examples, args.valid_examples) == (f"{data}/few.{lang}{other}", f"{data}/valid.{lang}{other}")
            assert args.init_from == f"{folder}/zero_shot/checkpoint_best.pt" and args.lr == [2e-5]
            assert (args.max_update, args.warmup_updates, args.validate_interval) == (60, 6, 10)  # warm-up ends
        assert evaluators[3 * number : 3 * number + 3] == 3 * [evaluator]
        zero_shot, *others = asked[3 * number : 3 * number + 3]
        assert zero_shot.lang == "en,de,es,cs,ru" and zero_shot.output_dir == f"{folder}/zero_shot"
        assert {one.examples for one in (zero_shot, *others)} == {f"{data}/test.{{lang}}{other}"}
        assert [(one.lang, one.checkpoint) for one in others] == [
            ("es", f"{folder}/few_es/checkpoint_best.pt"), ("ru", f"{folder}/few_ru/checkpoint_best.pt"),
        ]  # fmt: skip
    assert [Path(words[0]).name for words in commands["python"]] == [
        "stream_texts.py", "generated_table.py", "tasks_table.py",
    ]  # fmt: skip
    commands, trained = call(ARMS="four_streams", FEW_LANGUAGES="es ru", SEEDS="3 4")
    assert not trained and "mlvl-evaluate" not in commands  # it is done


def test_which_tasks_and_of_which_training(call, stubs):
    commands, trained = call(TASKS="none", ARMS="no_parallel")
    assert len(trained) == 2 and len(commands["python"]) == 2
    _, trained = call(TASKS="questions", ARMS="no_parallel", FEW_LANGUAGES="cs")
    assert [args.init_from for args in trained] == [
        "out/rows/no_parallel/seed1/checkpoint_last.pt",
        "out/tasks/no_parallel/questions/zero_shot/checkpoint_best.pt",
    ]
    _, (pretrained,) = call(TASKS="none", ARMS="with_questions")
    assert pretrained.parallel_text == (
        "out/world/streams/train/parallel.jsonl,out/world/examples/parallel/train.*.jsonl"
    )
    for wrong, says in (
        ({"TASKS": "riddles"}, "TASKS=riddles: choose one of entailment"),
        ({"ARMS": "no_parallel", "TUNED": "four_streams"}, "TUNED=four_streams: choose one of no_parallel"),
    ):
        stubs.run(FOLDER / "run_generated.sh", "new", status=2, says=says, **wrong)


# ---- the table -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("cclm_tasks_table", FOLDER / "tasks_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def finished(folder, zero_shot, few, forms):
    """A task's folder: accuracy by language, without and with few examples; form -> which of its examples are right."""
    (folder / "zero_shot").mkdir(parents=True)
    for lang, accuracy in zero_shot.items():
        (folder / "zero_shot" / f"{lang}.test.json").write_text(json.dumps({"accuracy": accuracy}))
        with open(folder / "zero_shot" / f"{lang}.test.said.csv", "w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["line", "id", "right", "said", "correct"])
            for form, right in forms.items():
                table.writerows([1, f"test-{n}-{form}", "a", "b", one] for n, one in enumerate(right))
    for lang, accuracy in few.items():
        (folder / f"few_{lang}").mkdir()
        (folder / f"few_{lang}" / f"{lang}.test.json").write_text(json.dumps({"accuracy": accuracy}))
    (folder / "done").touch()


def hypothesis(text, label):
    return json.dumps({"gold_label": label, "sentence2": text, "Flikr30kID": "a.png"}) + "\n"


def test_the_table_has_both_ways_and_what_texts_tell(script, tmp_path, capsys):
    accuracy = {"en": 80, "de": 70, "es": 60, "ru": 40}
    finished(tmp_path / "tasks/four/entailment", accuracy, {"es": 66}, {"one": [1, 1, 0, 0], "two": [1, 1, 1, 0]})
    (tmp_path / "tasks/four/questions/zero_shot").mkdir(parents=True)  # not finished
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").touch()
    data = tmp_path / "examples" / "entailment"
    data.mkdir(parents=True)
    # "red" tells entailment, "blue" the other; of the test two in four are as words say
    told = [("a red star", "entailment"), ("a red cat", "entailment"), ("a blue star", "neutral"), ("blue", "neutral")]
    (data / "train.en.jsonl").write_text("".join(hypothesis(*one) for one in told))
    asked = [("red", "entailment"), ("Blue!", "neutral"), ("red cat", "neutral"), ("a blue cat star", "entailment")]
    (data / "test.en.jsonl").write_text("".join(hypothesis(*one) for one in asked))
    arguments = [str(tmp_path / "tasks"), *("--examples", str(tmp_path / "examples"))]
    arguments += ["--images", str(tmp_path / "images")]
    languages = "--image-languages en,de --text-languages es,ru".split()
    script.main([*arguments, *languages, "--picture", str(tmp_path / "tasks.png")])
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["task", "how", "en", "de", "es", "ru", "captions", "text only"]
    assert lines[2] == ["entailment", "zero-shot", "80.0", "70.0", "60.0", "40.0", "75.0", "50.0"]
    assert lines[3] == ["entailment", "few-shot", "", "", "66.0", "", "", ""]
    assert lines[4][:3] == ["entailment", "words alone", "50.0"] and lines[5][:3] == ["entailment", "chance", "50.0"]
    assert lines[7] == ["task", "form", "en", "de", "es", "ru"]
    assert [line[1:3] for line in lines[9:]] == [["one", "50.0"], ["two", "75.0"]]
    assert (tmp_path / "tasks.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(script.UserError, match="no fine-tuning is finished"):
        script.main([str(tmp_path / "nothing"), *arguments[1:], *languages])
