"""Tasks on examples: options and files that do not go together, what is mirrored, batches of several processes."""

import json
from argparse import Namespace
from dataclasses import fields
from types import SimpleNamespace

import pytest

from mlvl_fairseq.data.examples import Example
from mlvl_fairseq.data.text import sentencepiece
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.models._fit import check_text
from mlvl_fairseq.tasks.image_text_classification import ImageTextClassificationConfig, ImageTextClassificationTask
from mlvl_fairseq.tasks.visual_question_answering import VisualQuestionAnsweringConfig, VisualQuestionAnsweringTask

QUESTIONS = [
    {"img_id": str(n), "question_id": str(n), "sent": "is a dog in the park", "label": {answer: 1.0}}
    for n, answer in enumerate(["yes", "no", "yes", "cat"])
]
HYPOTHESES = [{"Flikr30kID": str(n), "gold_label": "neutral", "sentence2": "a dog in the park"} for n in range(8)]
STATEMENTS = [{"sentence": "a dog", "label": "True", "images": ["0", "1"]}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    (folder / "text").write_text("ein hund im park\na dog in the park\nis yes no cat\n" * 5)
    sentencepiece.train_sentencepiece([folder / "text"], folder, 22)
    for number in range(8):
        (folder / "images" / "x").mkdir(parents=True, exist_ok=True)
        (folder / "images" / f"{number}").touch()
    (folder / "gqa.json").write_text(json.dumps(QUESTIONS))
    (folder / "nlvr.json").write_text(json.dumps(STATEMENTS))
    (folder / "xvnli.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in HYPOTHESES))
    (folder / "answers.json").write_text('["no", "yes"]')
    return folder


KINDS = {
    "classes": (ImageTextClassificationTask, ImageTextClassificationConfig),
    "answers": (VisualQuestionAnsweringTask, VisualQuestionAnsweringConfig),
}


@pytest.fixture
def setup(folder):
    """``setup("answers", "gqa.json", **options)``."""

    def made(kind, examples, **given):
        task, config = KINDS[kind]
        options = {option.name: option.default for option in fields(config)}
        own = {
            "seed": 1,
            "tokenizer_folder": str(folder),
            "image_root": str(folder / "images"),
            "image_name": "{image}",
        }
        files = {"examples": ",".join(str(folder / name) for name in examples.split())}
        return task.setup_task(Namespace(**{**options, **own, **files, "image_name": "{image}", **given}))

    return made


@pytest.mark.parametrize(
    "kind, examples, options, message",
    [
        ("classes", "", {}, "--examples: give a file of examples"),
        ("classes", "xvnli.jsonl", {"tokenizer_folder": ""}, "say with --tokenizer-folder which XLM-R folder"),
        ("classes", "xvnli.jsonl", {"image_root": ""}, "say where the images are: --image-root FOLDER"),
        ("classes", "xvnli.jsonl", {"image_root": "hdfs://host/a"}, "hdfs is not read from here"),
        ("classes", "xvnli.jsonl", {"example_form": "other"}, "--example-form other: choose one of fixed, reference"),
        ("classes", "xvnli.jsonl", {"crop_scale": "0.5,1.0"}, "--crop-scale 0.5,1.0 goes with --augment"),
        ("classes", "xvnli.jsonl", {"augment": True, "image_features": "a.npy"}, "--augment changes pictures, and"),
        ("classes", "xvnli.jsonl", {"classes": "a"}, "--classes a: give at least two labels, each once"),
        ("classes", "xvnli.jsonl", {"classes": "a,b"}, "no usable example: 8 unknown label; first: "),
        ("classes", "gqa.json", {}, "gqa.json: holds questions: train with --task visual_question_answering"),
        ("classes", "xvnli.jsonl nlvr.json", {}, "nlvr.json: 2 images a text, in "),
        ("answers", "xvnli.jsonl", {}, "xvnli.jsonl: holds labels: train with --task image_text_classification"),
        ("answers", "gqa.json", {"answer_head": "x"}, "--answer-head x: choose one of decoder, classifier"),
        ("answers", "gqa.json", {"answer_list": "hdfs://host/a"}, "--answer-list hdfs://host/a: hdfs is not read"),
    ],
)
def test_options_that_do_not_fit(setup, kind, examples, options, message):
    with pytest.raises(UserError) as raised:
        setup(kind, examples, **options)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_what_a_task_tells_the_model(setup):
    task = setup("classes", "xvnli.jsonl")
    assert (task.heads, task.images_per_text, task.classes) == ("labels", 1, ["contradiction", "entailment", "neutral"])
    assert task.state.state_dict["classes"] == task.classes
    two = setup("classes", "nlvr.json")
    assert (two.images_per_text, two.classes) == (2, ["False", "True"])
    answers = setup("answers", "gqa.json")
    assert (answers.heads, answers.classes, answers.answers) == ("answers", False, ["yes", "no", "cat"])
    assert answers.state.state_dict["answers"] == answers.answers
    chosen = setup("answers", "gqa.json", answer_head="classifier")
    assert (chosen.heads, chosen.classes) == ("labels", ["yes", "no", "cat"])


def test_answers_that_are_not_in_the_list(setup, folder, caplog):
    """A decoder learns them; a classifier cannot; in validation they are never right. All are told."""

    def kept(head, training):
        task = setup("answers", "gqa.json", answer_head=head, answer_list=str(folder / "answers.json"))
        caplog.clear()
        found = task.usable(task.train[0].examples, training, "FILE")
        return [example.answer for example in found], caplog.text

    everything = ["yes", "no", "yes", "cat"]
    told = "FILE: 1 answers (1 times) are not in the list of 2, such as 'cat'"
    for head, training, answers in [
        ("decoder", True, everything),
        ("decoder", False, everything),
        ("classifier", True, everything[:3]),
        ("classifier", False, everything),
    ]:
        found, log = kept(head, training)
        assert found == answers and told in log
        assert ("FILE: 1 questions have no answer of the list" in log) == (head == "classifier" and training)


def test_what_is_mirrored(setup):
    """Not where text or answer tells a side; as published, hypotheses always, questions with the letters never."""

    def mirrored(kind, examples, form):
        task = setup(kind, examples, example_form=form)
        texts = [Example("", (), text) for text in ("A dog.", "The Left one.", "bright", "left")]
        return [task.may_mirror(one) for one in (*texts, Example("", (), "where", answers={"right": 1.0}))]

    told = [True, False, True, False, False]
    assert mirrored("classes", "xvnli.jsonl", "fixed") == mirrored("answers", "gqa.json", "fixed") == told
    assert mirrored("classes", "xvnli.jsonl", "reference") == [True] * 5
    assert mirrored("answers", "gqa.json", "reference") == [True, True, False, False, False]


def batches(task, rows, ranks, rank, epoch=1):
    """Numbers of examples of each batch."""
    taken, data = [], task.dataset("train")
    data.collater = lambda samples: taken.append([sample["id"] for sample in samples]) or {}
    iterator = task.get_batch_iterator(data, max_sentences=rows, seed=7, num_shards=ranks, shard_id=rank, epoch=epoch)
    for _ in iterator.next_epoch_itr():
        pass
    return taken


@pytest.fixture
def loaded(setup, monkeypatch):
    def made():
        task = setup("classes", "xvnli.jsonl")
        task.load_dataset("train")
        monkeypatch.setattr(type(task.dataset("train")), "__getitem__", lambda self, index: {"id": int(index)})
        return task

    return made


def test_ranks_together_see_what_one_process_would(loaded):
    """The last batch is smaller, and a set smaller than a batch is one."""
    alone = batches(loaded(), 6, 1, 0)
    two = [batches(loaded(), 3, 2, rank) for rank in (0, 1)]
    assert [len(batch) for batch in alone] == [6, 2] and sorted(sum(alone, [])) == list(range(8))
    assert two[0][0] + two[1][0] == alone[0] and two[0][1] == alone[1]
    assert [sorted(batch) for batch in batches(loaded(), 128, 1, 0)] == [list(range(8))]
    assert batches(loaded(), 6, 1, 0, epoch=2) != alone


def test_tokens_do_not_limit_batches(loaded):
    task = loaded()
    with pytest.raises(UserError, match="--max-tokens 5 says nothing to examples with images: give --batch-size"):
        task.get_batch_iterator(task.dataset("train"), max_tokens=5)


def test_a_missing_file_is_told_with_the_languages_that_have_one(setup, folder):
    with pytest.raises(DataError, match="/de.jsonl: no such file; '.*/{lang}.jsonl' is there in: .*xvnli"):
        setup("classes", "xvnli.jsonl {lang}.jsonl", langs="de")


def test_validation_needs_files_of_the_same_kind(setup, folder):
    with pytest.raises(UserError, match="there is nothing to validate on: give --valid-examples, or --disable-valid"):
        setup("classes", "xvnli.jsonl").load_dataset("valid")
    with pytest.raises(UserError, match="nlvr.json: 2 images a text, in .*xvnli.jsonl 1"):
        setup("classes", "xvnli.jsonl", valid_examples=str(folder / "nlvr.json")).load_dataset("valid")
    with pytest.raises(DataError, match="none.json: no such file"):
        setup("classes", "xvnli.jsonl", valid_examples=str(folder / "none.json")).load_dataset("valid")


def test_the_option_is_named_that_makes_texts_too_long(setup):
    tower = SimpleNamespace(tokenizer="sentencepiece", max_length=48)
    for options, said in (
        ({"max_length": 50}, "--max-length 50"),
        ({"max_length": 40, "eval_max_length": 60}, "--eval-max-length 60"),
    ):
        with pytest.raises(UserError, match=f"^{said} is more than the text tower's 48 tokens"):
            check_text(tower, "xlmr", setup("classes", "xvnli.jsonl", **options))
