import pytest

from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.process.exit_status import user_message


def test_messages_of_user_errors():
    assert user_message(DataError("is empty", path="a.txt")) == "a.txt: is empty"
    assert user_message(ValueError("bug")) is None
    try:
        try:
            raise UserError("the vocabulary does not fit")
        except UserError:
            raise Exception("Cannot load model parameters from checkpoint")
    except Exception as error:
        assert user_message(error) == "the vocabulary does not fit"


def test_training_without_a_batch_size(run_alone, root):
    line = ["--user-dir", root / "mlvl_fairseq", "--task", "dummy_lm", "--arch", "transformer_lm", "--cpu"]
    ended = run_alone("fairseq-train", *map(str, line))
    assert ended.returncode == 2
    assert ended.stderr.endswith("error: Must specify batch size either with --max-tokens or --batch-size\n")


def test_error_in_another_process():
    trace = "Original Traceback (most recent call last):\n ...\nmlvl_fairseq.errors.DataError: f.pt: is truncated\n"
    from_rank = type("ProcessRaisedException", (Exception,), {})
    assert user_message(from_rank(trace)) == "f.pt: is truncated"
    assert user_message(from_rank(trace.replace("DataError", "MissingFileError"))) == "f.pt: is truncated"
    assert user_message(from_rank(trace.replace("mlvl_fairseq.errors.Data", "Value"))) is None
    assert user_message(DataError(f"Caught DataError in worker 0.\n{trace}")) == "f.pt: is truncated"


def test_a_rank_whose_peer_has_ended_says_so():
    gloo = "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4711"
    assert user_message(RuntimeError(gloo)).startswith("another rank has ended, and says why")
    assert user_message(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert user_message(ValueError(gloo)) is None


def test_a_folder_with_a_training_on_other_data():
    """fairseq's own words, whose advice keeps the old state."""
    said = "Cannot resume training due to dataloader mismatch, please report this to the fairseq developers. You can "
    assert user_message(RuntimeError(f"{said}relaunch it")).startswith("--save-dir holds a training on other data")


@pytest.mark.parametrize("modules, status", [("fairseq_cli", 2), ("sys", 1)])
def test_only_fairseqs_commands_end_without_traceback(run_alone, root, modules, status):
    script = f"import mlvl_fairseq, {modules}; from mlvl_fairseq.errors import UserError; raise UserError('wrong file')"
    ended = run_alone("python", "-c", script, env={"PYTHONPATH": str(root)})
    assert ended.returncode == status
    assert (ended.stderr.endswith(": error: wrong file\n")) == (status == 2)
