from types import SimpleNamespace

import pytest

from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.fairseq_patches.missing_checkpoint import explain_in_one_line


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


@pytest.mark.parametrize("path, what", [("/dev/zero", "a device"), (".", "a folder")])
def test_no_regular_file(path, what):
    module = SimpleNamespace(load_checkpoint=lambda cfg, trainer: "loaded")
    explain_in_one_line(module)
    with pytest.raises(DataError, match=f"^{path}: is {what}, not a regular file"):
        module.load_checkpoint(SimpleNamespace(finetune_from_model=path), None)
    for none in (None, "/nothing/here"):  # fairseq's own affair: there may be a checkpoint to go on from
        assert module.load_checkpoint(SimpleNamespace(finetune_from_model=none), None) == "loaded"
