"""Training with LAMB on batches that are encoded a few rows at a time, with the real commands."""

import pytest
import torch

from mlvl_fairseq.checkpoints.comparison import differing, largest_difference, tensors

TOLERANCE = 1e-5  # absolute; float32 sums are taken in another order


@pytest.fixture(scope="module")
def train(corpus_without_teacher, teacher_options, succeed, tmp_path_factory):
    """``train(*options)``: the last checkpoint of a training with LAMB in a folder of its own, or in `folder`."""

    def run(*options, folder=None, epochs=1):
        folder = folder or tmp_path_factory.mktemp("run")
        lamb = ["--optimizer", "torch_lamb", "--lr", 1e-2, "--lamb-eps", 1e-3, "--warmup-updates", 0]
        own = ["--disable-validation", "--batch-size", 32, "--max-epoch", epochs, "--save-dir", folder]
        succeed("fairseq-train", corpus_without_teacher, *teacher_options, *lamb, *own, *options)
        return folder / "checkpoint_last.pt"

    return run


@pytest.fixture(scope="module")
def whole(train):
    """After one epoch of three updates of 32 rows."""
    return train()


def test_chunks_make_the_update_of_the_whole_batch(train, whole):
    assert largest_difference(train("--encode-chunk", 5), whole) < TOLERANCE


def test_products_in_bfloat16_make_nearly_the_update(train, whole):
    assert 1e-6 < largest_difference(train("--autocast", "bf16"), whole) < 0.05


def test_control_accumulated_gradients_do_not(train, whole):
    """With --update-freq the rows of the small batches are not each other's negatives."""
    accumulated = train("--batch-size", 16, "--update-freq", 2)
    assert largest_difference(accumulated, whole) > 100 * TOLERANCE


@pytest.mark.parametrize(
    "options", [["--encode-chunk", 5, "--weight-decay", 0.1, "--lamb-spare-vectors"], ["--autocast", "bf16"]]
)
def test_training_resumes_exactly(options, train, tmp_path):
    undisturbed = train(*options, epochs=2)
    first = tensors(train(*options, folder=tmp_path), ("model", "last_optimizer_state")).values()
    assert {tensor.dtype for tensor in first if tensor.is_floating_point()} == {torch.float32}
    resumed = train(*options, folder=tmp_path, epochs=2)
    assert differing(resumed, undisturbed) == []
    assert any(place.endswith("exp_avg_sq") for place in tensors(resumed, ("last_optimizer_state",)))


def test_a_chunk_of_fewer_than_no_rows_is_refused(run, corpus_without_teacher, teacher_options, tmp_path):
    options = [*teacher_options, "--save-dir", tmp_path, "--encode-chunk", -1]
    error = run("fairseq-train", corpus_without_teacher, *options).error
    assert error == "--encode-chunk -1 is no number of rows; 0 encodes all at once"
