"""Options of task cclm_pretraining that do not fit: one line."""

from argparse import Namespace
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fairseq.logging import metrics
from ranks import run_ranks

from mlvl_fairseq.criterions.cclm import CclmPretrainingCriterion
from mlvl_fairseq.data.streams import STREAM_KINDS
from mlvl_fairseq.data.text import sentencepiece
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.models._fit import check_text
from mlvl_fairseq.tasks.cclm_pretraining import CclmPretrainingConfig, CclmPretrainingTask, patches_a_row


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "text").write_text("ein hund im park\na dog in the park\n" * 5)
    sentencepiece.train_sentencepiece([folder / "text"], folder, 18)
    return folder


@pytest.fixture
def setup(tokenizer, tmp_path):
    """``setup(**options)``: a task on 16 records of each kind of stream whose files are given as ``FILE``."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"source_text": "a dog", "target_text": "ein hund", "caption": "a dog", "desc": "a dog"}\n' * 16)

    def made(**given):
        options = {option.name: option.default for option in fields(CclmPretrainingConfig)}
        own = {"seed": 1, "batch_size": 4, "update_freq": [1], "tokenizer_folder": str(tokenizer)}
        given = {name: str(path) if value == "FILE" else value for name, value in given.items()}
        task = CclmPretrainingTask.setup_task(Namespace(**{**options, **own, **given}))
        task.side = 2
        return task

    return made


def of(task, split="train"):
    task.load_dataset(split)
    return task.dataset(split)


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "give what to train on: --image-text or --monolingual or --parallel-text or --regions"),
        ({"image_text": "hdfs://cluster/images"}, "hdfs is not read from here; copy it first"),
        ({"image_text": "FILE", "image_root": "hdfs://cluster"}, "--image-root hdfs://cluster: hdfs is not read"),
        ({"image_text": "FILE", "tokenizer_folder": ""}, "say with --tokenizer-folder which XLM-R folder"),
        ({"image_text": "FILE", "tokenizer_folder": "none"}, "holds no tokenizer"),
        ({"image_text": "FILE", "held_out": 2}, "--held-out 2 is not a number of at least 0 and at most 1"),
        ({"parallel_text": "FILE", "text_probability": 2}, "--text-probability 2 is not"),
        ({"regions": "FILE", "region_probability": -1}, "--region-probability -1 is not"),
        ({"monolingual": "FILE", "mono_probability": 2}, "--mono-probability 2 is not"),
        ({"image_text": "FILE", "stream_form": "other"}, "--stream-form other: choose one of fixed, reference"),
        ({"image_text": "FILE", "image_features": "FILE"}, "give an .npy file"),
        (
            {"image_text": "FILE", "cleaning": "cclm", "tokenized": True},
            "--cleaning cclm does nothing with --tokenized",
        ),
        ({"image_text": "FILE", "cleaning": "no"}, "--cleaning no: there are cclm, cclm_question, lilt, none"),
        ({"image_text": "FILE", "batch_size": 17}, "image_text: 16 records are no batch of 17 on each of 1 ranks"),
        ({"image_text": "FILE", "batch_size": None}, "say with --batch-size, or for each stream .--image-batch-size"),
        ({"image_text": "FILE", "update_freq": [3]}, "--update-freq 3: an iteration has 1 batches"),
        ({"image_text": "FILE", "flip": 0.1}, "--flip 0.1 goes with --augment"),
    ],
)
def test_options_that_do_not_fit(setup, options, message):
    with pytest.raises(UserError, match=message):
        task = setup(**options)
        task.order(of(task), 1)


def test_validation_needs_records(setup):
    with pytest.raises(UserError, match="give --valid-..., --held-out, or --disable-validation"):
        of(setup(parallel_text="FILE"), "valid")


def test_what_is_held_out_is_not_trained_on(setup):
    task = setup(parallel_text="FILE", image_text="FILE", valid_image_text="FILE", held_out=0.25)
    train, valid = of(task), of(task, "valid")
    chosen = {
        (name, training): task.chosen(data.streams[number], training)
        for training, data in ((True, train), (False, valid))
        for name, number, _ in task.parts(training)
    }
    text = [chosen["parallel_text", training] for training in (True, False)]
    assert [len(records) for records in text] == [12, 4]
    assert sorted(np.concatenate(text).tolist()) == list(range(16))
    assert [len(chosen["image_text", training]) for training in (True, False)] == [16, 16]
    assert task.score_names() == ["image_loss", "text_loss"]


def test_max_tokens_is_refused(setup):
    task = setup(parallel_text="FILE")
    with pytest.raises(UserError, match="--max-tokens 100 says nothing to streams"):
        task.get_batch_iterator(of(task), max_tokens=100)


def test_batches_of_a_stream_have_its_size(setup):
    task = setup(parallel_text="FILE", image_text="FILE", regions="FILE", text_batch_size=3, region_images=1)
    order = task.order(of(task), 1)
    assert {stream.name: stream.batch for stream in order.streams} == {
        "parallel_text": 3,
        "image_text": 4,
        "regions": 1,
    }
    assert [stream.name for stream in order.streams] == ["parallel_text", "image_text", "regions"]
    assert order.leading.name == "image_text" and STREAM_KINDS["regions"].records_a_batch(task.cfg, 128) == 1
    assert STREAM_KINDS["regions"].records_a_batch(setup(regions="FILE").cfg, 128) == 48  # as published


def test_longest_text(setup):
    assert setup(parallel_text="FILE", tlm=True).max_positions() == 128
    assert setup(parallel_text="FILE").max_positions() == 64 and setup(image_text="FILE").max_positions() == 40
    assert setup(image_text="FILE", valid_parallel_text="FILE").max_positions() == 64


@pytest.mark.parametrize(
    "options, said",
    [
        ({"image_text": "FILE", "max_length": 50}, "--max-length 50"),
        ({"image_text": "FILE", "parallel_text": "FILE"}, "--text-max-length 64"),
        ({"image_text": "FILE", "parallel_text": "FILE", "max_length": 65}, "--max-length 65"),
        ({"parallel_text": "FILE", "tlm": True}, "--tlm, twice --text-max-length: 128"),
    ],
)
def test_the_option_is_named_that_makes_texts_too_long(setup, options, said):
    with pytest.raises(UserError, match=f"^{said} is more than the text tower's 48 tokens"):
        check_text(SimpleNamespace(tokenizer="sentencepiece", max_length=48), "xlmr", setup(**options))


def test_the_option_is_named_whose_file_is_empty(setup, tmp_path):
    (tmp_path / "empty.jsonl").touch()
    empty = str(tmp_path / "empty.jsonl")
    with pytest.raises(UserError, match=f"^--valid-image-text {empty}: there is no record in it"):
        of(setup(image_text="FILE", valid_image_text=empty), "valid")
    with pytest.raises(UserError, match=f"^--image-text {empty}: there is no record in it"):
        of(setup(image_text=empty))


def test_what_was_not_used_on_any_rank_is_told(setup):
    log = {"loss": 8.0, "sample_size": 4, "nsentences": 4, "ntokens": 20, "image_itc": 8.0, "clipped_boxes": 0}
    criterion = object.__new__(CclmPretrainingCriterion)
    criterion.__dict__["training"] = True
    with metrics.aggregate(new_root=True) as found:
        setup(image_text="FILE").reduce_metrics([{**log, "bad_records": number} for number in (1, 2)], criterion)
    values = found.get_smoothed_values()
    assert (values["bad_records"], values["image_itc"]) == (3, 2.0) and "clipped_boxes" not in values


def test_a_batch_that_one_rank_cannot_use_ends_training_on_all(setup, tmp_path):
    task = setup(image_text="FILE")
    usable = {"problems": [], "nsentences": 4, "records": "image_text", "clipped_boxes": 0, "unused_rows": 0}
    usable["absent_rows"] = 0
    batches = [usable, {**usable, "nsentences": 0}, {**usable, "problems": ["one", "two"]}]

    def work(rank):
        said = []
        for own in ((usable, usable), (batches[1], usable), (usable, batches[2])):
            try:
                said.append(str(task._look_at(own[rank])["bad_records"]))
            except UserError as error:
                said.append(str(error))
        return said

    first, second = run_ranks(work, tmp_path)
    another = "training ends: another rank has a batch that cannot be used, and says why"
    assert first[0] == second[0] == "0"
    assert first[1].startswith("no record of a batch of --image-text can be used") and second[1] == another
    assert first[2] == another and second[2].startswith("one (--bad-record skip")


def test_iterator_goes_through_all_epochs(setup):
    """The same in every epoch but for the draws, on whichever rank."""
    task = setup(parallel_text="FILE")
    data = of(task)
    iterator = task.get_batch_iterator(data, num_shards=2, shard_id=1)
    seen = [[batch["id"].tolist() for batch in iterator.next_epoch_itr()] for _ in range(2)]
    order = task.order(data, 2)
    for epoch, batches in enumerate(seen, 1):
        assert batches == [batch.tolist() for batch in order.batches(epoch)[1::2]]


@pytest.mark.parametrize("states, side", [(5, 2), (50, 7), (6, 0)])
def test_patches_a_row(states, side):
    """As many as the model gives states for a picture, without the one for all of it."""

    class Model(torch.nn.Linear):
        preprocess = SimpleNamespace(size=8)

        def encode_image(self, images):
            assert images.shape == (1, 3, 8, 8) and not self.training
            return SimpleNamespace(states=torch.zeros(1, states, 4))

    model = Model(1, 1)
    assert patches_a_row(model, None) == side and model.training
    assert patches_a_row(model, (states - 1, 4)) == side
