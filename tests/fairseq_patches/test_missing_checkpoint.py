import pytest

from mlvl_fairseq.errors import UserError


@pytest.mark.parametrize(
    "more, message",
    [
        ([], "--finetune-from-model gone.pt does not exist"),
        (["--reset-optimizer"], "--finetune-from-model can not be set together with either --reset-optimizer"),
        (["--restore-file", "other.pt"], "--finetune-from-model and --restore-file .* can not be specified together"),
    ],
)
def test_message_is_one_line(run_here, train_options, tmp_path, more, message):
    options = ["--finetune-from-model", "gone.pt", *more, "--max-epoch", 1, "--save-dir", tmp_path]
    with pytest.raises(UserError, match=message) as caught:
        run_here("fairseq-train", *train_options, *options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200
