"""Two CPU ranks do what one process with twice the batch does.

Both see the same captions in the same order, the contrastive loss is computed over the captions of all ranks, and
gradients are added up. What differs is the order of float32 sums: of rows within a batch, of ranks within a gradient.
Losses differ by up to 2e-7 (one or two units in the last place); weights by up to 3e-6, as Adam divides gradients by
their own size, which magnifies rounding errors where there is hardly a gradient.
"""

import hashlib
import json
import math

import pytest
from fairseq.trainer import Trainer
from method_rows import EVERYTHING, WITH_ADAPTER, WITH_PLUGIN
from processes import free_port

from mlvl_fairseq.checkpoints.comparison import largest_difference, tensors
from mlvl_fairseq.criterions import cll_clip
from mlvl_fairseq.losses import contrastive_loss

LOSS_TOLERANCE = 1e-6  # relative
WEIGHT_TOLERANCE = 3e-5  # absolute; a learning rate of 1e-3 has moved weights by up to 1e-2
RECALLS = [f"valid_{name}" for name in ("txt_r1", "txt_r5", "txt_r10", "img_r1", "img_r5", "img_r10", "r_mean")]


@pytest.fixture(autouse=True)
def recorded(monkeypatch):
    """Every process writes its losses, as they are before they are rounded, and a digest of its weights and of what its
    methods remember to files in its save directory."""
    reduce = Trainer._reduce_and_log_stats

    def record(self, logs, sample_size, grad_norm=None):
        if self.model.training:
            rank = self.cfg.distributed_training.distributed_rank
            with open(f"{self.cfg.checkpoint.save_dir}/losses.{rank}", "a") as file:
                loss = float(sum(log["loss"] for log in logs) / sample_size)
                print(json.dumps([loss, int(sample_size)]), file=file)
            with open(f"{self.cfg.checkpoint.save_dir}/digests.{rank}", "a") as file:
                state = {**self.get_model().state_dict(), **self.get_criterion().state_dict()}
                content = b"".join(name.encode() + tensor.numpy().tobytes() for name, tensor in sorted(state.items()))
                print(hashlib.sha256(content).hexdigest(), file=file)
        return reduce(self, logs, sample_size, grad_norm)

    monkeypatch.setattr(Trainer, "_reduce_and_log_stats", record)


class Run:
    """What a run on some ranks left in its folder."""

    def __init__(self, folder):
        self.folder, self.last = folder, folder / "checkpoint_last.pt"

    def losses(self, rank=0):
        return [json.loads(line)[0] for line in (self.folder / f"losses.{rank}").read_text().splitlines()]

    def digests(self, rank=0):
        """One after each update."""
        return (self.folder / f"digests.{rank}").read_text().split()

    def rows(self):
        return {json.loads(line)[1] for line in (self.folder / "losses.0").read_text().splitlines()}

    def recalls(self):
        """In %, after each epoch."""
        lines = [line for line in (self.folder / "log.0").read_text().splitlines() if '"valid_r_mean"' in line]
        return [[float(json.loads(line)[name]) for name in RECALLS] for line in lines]


@pytest.fixture
def train(fork, tmp_path):
    """``train(name, ranks, *options)``: fairseq-train on one or more ranks, each a process."""

    def start(name, ranks, *options):
        folder = tmp_path / name
        folder.mkdir()
        options = [*options, "--save-dir", folder, "--distributed-world-size", ranks]
        if ranks > 1:
            address = f"tcp://127.0.0.1:{free_port()}"
            options += ["--distributed-no-spawn", "--distributed-init-method", address, "--distributed-backend", "gloo"]
        logs = [folder / f"log.{rank}" for rank in range(ranks)]
        processes = [fork(log, "fairseq-train", *options, "--distributed-rank", rank) for rank, log in enumerate(logs)]
        for process, log in zip(processes, logs):
            process.join(timeout=120)
            assert process.exitcode == 0, log.read_text()[-3000:]
        return Run(folder)

    return start


@pytest.fixture
def german(cll, english):
    """fairseq-train's arguments for German after English."""
    return [*cll("de", "en", "cll_clip_with_teir"), "--finetune-from-model", english("cll_clip_with_teir")]


@pytest.fixture
def without_dropout(trikd_options):
    """TriKD's arguments; every rank would draw other units to drop."""
    return [*trikd_options, "--langs", "de", "--dropout", 0, "--attention-dropout", 0, "--lr", 1e-3]


@pytest.fixture(params=["image_text_retrieval", "cll_retrieval", "trikd"])
def options(request, corpus, teacher_options, german, without_dropout):
    """fairseq-train's arguments for each of the tasks, two epochs of seven updates."""
    more = ["--max-epoch", 2, "--batch-size-valid", 5]  # 24 captions: five batches, which two ranks cannot share evenly
    tasks = {"image_text_retrieval": [corpus, *teacher_options], "cll_retrieval": german, "trikd": without_dropout}
    return [*tasks[request.param], *more]


def test_two_ranks_train_as_one_with_twice_the_batch(options, train):
    alone = train("one", 1, *options, "--batch-size", 16)
    assert len(alone.losses()) == 14 and alone.rows() == {16}
    for backend in ("legacy_ddp", "pytorch_ddp"):
        both = train(backend, 2, *options, "--batch-size", 8, "--ddp-backend", backend)
        assert both.losses() == both.losses(rank=1) == pytest.approx(alone.losses(), rel=LOSS_TOLERANCE)
        assert both.rows() == {16}
        assert largest_difference(both.last, alone.last) < WEIGHT_TOLERANCE
        assert both.recalls() == alone.recalls() and len(alone.recalls()) == 2


def test_ranks_that_encode_in_chunks_train_as_one_that_does_not(corpus, teacher_options, train):
    options = [corpus, *teacher_options, "--max-epoch", 1]
    alone = train("one", 1, *options, "--batch-size", 16)
    for backend in ("legacy_ddp", "pytorch_ddp"):
        both = train(backend, 2, *options, "--batch-size", 8, "--encode-chunk", 3, "--ddp-backend", backend)
        assert both.losses() == both.losses(rank=1) == pytest.approx(alone.losses(), rel=LOSS_TOLERANCE)
        assert largest_difference(both.last, alone.last) < WEIGHT_TOLERANCE


def test_control_ranks_that_do_not_gather_have_other_losses(german, train, monkeypatch):
    """What the tolerance must tell apart: each rank with the negatives of its own captions only."""
    gathered = train("gathered", 2, *german, "--batch-size", 8, "--max-update", 1)
    monkeypatch.setattr(cll_clip, "contrastive_loss", lambda *args, gather, **more: contrastive_loss(*args, **more))
    alone = train("alone", 2, *german, "--batch-size", 8, "--max-update", 1)
    assert alone.losses()[0] < gathered.losses()[0] * (1 - 1000 * LOSS_TOLERANCE)


def two_ranks_of_every_kind():
    """Methods with the way to add gradients up, which wraps the model: all that work together at once, others alone."""
    together = f"{EVERYTHING}+{WITH_ADAPTER[0]}"
    alone = [method for method in (*WITH_PLUGIN, *WITH_ADAPTER) if method not in together.split("+")]
    return [*((method, "legacy_ddp") for method in (together, *alone)), (EVERYTHING, "pytorch_ddp")]


@pytest.mark.parametrize("method, backend", two_ranks_of_every_kind())
def test_every_kind_of_method_learns_two_languages_on_two_ranks(method, backend, cll, train):
    """On both ranks alike, and as one process with twice the batch does."""
    short = ["--max-update", 2, "--ewc-batch-size", 16, "--mas-batch-size", 16, "--disable-validation"]
    options = [*short, "--batch-size", 8, "--ddp-backend", backend]
    english = train("en", 2, *cll("en", method=method), *options)
    german = [*cll("de", "en", method), "--finetune-from-model", english.last]
    both = train("de", 2, *german, *options)
    for run in (english, both):
        assert all(math.isfinite(loss) and loss > 0 for loss in run.losses()) and len(run.losses()) == 2
        assert run.digests() == run.digests(rank=1) and len(set(run.digests())) == 2
    alone = train("alone", 1, *german, *short, "--batch-size", 16)
    assert both.losses() == both.losses(rank=1) == pytest.approx(alone.losses(), rel=LOSS_TOLERANCE)
    assert largest_difference(both.last, alone.last) < WEIGHT_TOLERANCE


@pytest.mark.parametrize("method", ["er", "der+oewc"])
def test_ranks_keep_one_memory(method, cll, english, train):
    """What is replayed, what enters the memory, and what a penalty weighs are those of one process."""
    options = [*cll("de", "en", method), "--finetune-from-model", english(method), "--max-update", 6]
    alone = train("one", 1, *options, "--batch-size", 16, "--ewc-batch-size", 16)
    both = train("two", 2, *options, "--batch-size", 8, "--ewc-batch-size", 16, "--ddp-backend", "legacy_ddp")
    assert both.losses() == both.losses(rank=1) == pytest.approx(alone.losses(), rel=LOSS_TOLERANCE)
    assert both.rows() == alone.rows() == {16}
    assert largest_difference(both.last, alone.last) < WEIGHT_TOLERANCE
    memories = [tensors(run.last, ("model",)) for run in (alone, both)]
    for name in ("items", "next_items", "seen"):
        first, second = (memory[f"model.continual.replay.{name}"] for memory in memories)
        assert first.equal(second), name
    assert len(memories[0]["model.continual.replay.items"]) > 50


@pytest.mark.parametrize(
    "what, batch_size",
    [("image_text_retrieval", 128), ("cll_clip", 128), ("er", 80), ("der", 128), ("er_ace", 128)],
)
def test_a_step_of_fewer_captions_than_ranks_take(what, batch_size, corpus, teacher_options, cll, english, train):
    """120 captions: with 80 a rank the second one has 40, with 128 none. Then it stands by with others' (fairseq's
    dummy batch), which are nobody's negatives, are not offered to a memory, and take nothing from it."""
    if what == "image_text_retrieval":
        options = [corpus, *teacher_options]
    else:
        options = [*cll("de", "en", what), "--finetune-from-model", english(what)]
    options += ["--max-epoch", 2, "--disable-validation"]
    alone = train("one", 1, *options, "--batch-size", 2 * batch_size)
    both = train("two", 2, *options, "--batch-size", batch_size, "--ddp-backend", "legacy_ddp")
    assert both.rows() == alone.rows() == {120} and len(alone.losses()) == 2
    assert both.losses() == both.losses(rank=1) == pytest.approx(alone.losses(), rel=LOSS_TOLERANCE)
    assert both.digests() == both.digests(rank=1)
    assert largest_difference(both.last, alone.last) < WEIGHT_TOLERANCE


def test_ranks_take_turns_with_data_sets_together(two_data_sets, cll, train):
    """The batches of one update are of one data set on all ranks."""
    _, *options = cll("en", method="cll_clip_with_teir")
    options = [two_data_sets, *options, "--data-sets", "picture0,small", "--data-set-moments", "own", "--max-epoch", 2]
    alone = train("one", 1, *options, "--batch-size", 16)
    both = train("two", 2, *options, "--batch-size", 8, "--ddp-backend", "legacy_ddp")
    assert both.losses() == both.losses(rank=1) == pytest.approx(alone.losses(), rel=LOSS_TOLERANCE)
    assert len(alone.losses()) == 8 and both.recalls() == alone.recalls()
    assert largest_difference(both.last, alone.last) < WEIGHT_TOLERANCE


def test_gradients_are_accumulated(german, train):
    """The distillation loss, a mean over captions, does not mind how they are cut into batches."""
    german = [*german, "--cross-modal-scale", 0, "--max-update", 7]
    whole = train("whole", 1, *german, "--batch-size", 16)
    parts = train("parts", 1, *german, "--batch-size", 8, "--update-freq", 2)
    assert parts.rows() == {16}
    assert parts.losses() == pytest.approx(whole.losses(), rel=LOSS_TOLERANCE)
    assert largest_difference(parts.last, whole.last) < WEIGHT_TOLERANCE


@pytest.fixture
def aligned(wordpiece_corpus, succeed, user_dir):
    """fairseq-train's arguments for LilT's adapters and norms in frozen towers, without dropout."""
    folder, recipe = wordpiece_corpus.parent, succeed("mlvl-options", "--config", "lilt_small").splitlines()
    small = ["--image-layers", 1, "--text-layers", 1, "--text-dropout", 0, "--text-attention-dropout", 0]
    run = ["--cpu", "--num-workers", 0, "--max-update", 3, "--disable-validation"]
    return [wordpiece_corpus, "--user-dir", user_dir, "--tokenizer-folder", folder, *recipe, *small, *run]


@pytest.mark.parametrize(
    "negatives, backend, micro_batches", [("gather", "pytorch_ddp", 1), ("local", "legacy_ddp", 2)]
)
def test_frozen_towers_are_aligned_on_two_ranks(negatives, backend, micro_batches, aligned, train):
    """Gathered negatives are those of a batch twice as large, local ones those of two batches."""
    aligned = [*aligned, "--negatives", negatives]
    alone = train("one", 1, *aligned, "--batch-size", 16 // micro_batches, "--update-freq", micro_batches)
    both = train("two", 2, *aligned, "--batch-size", 8, "--ddp-backend", backend)
    assert both.losses() == both.losses(rank=1) == pytest.approx(alone.losses(), rel=LOSS_TOLERANCE)
    assert both.rows() == alone.rows() == {16} and len(both.losses()) == 3
    assert both.digests() == both.digests(rank=1)
    assert largest_difference(both.last, alone.last) < WEIGHT_TOLERANCE
