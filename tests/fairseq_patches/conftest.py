import shutil
from pathlib import Path

import pytest

TINY = (
    "--arch transformer --encoder-layers 1 --decoder-layers 1 --encoder-embed-dim 8 --decoder-embed-dim 8 "
    "--encoder-ffn-embed-dim 8 --decoder-ffn-embed-dim 8 --encoder-attention-heads 2 --decoder-attention-heads 2 "
    "--optimizer adam --lr 0.01 --criterion cross_entropy --dropout 0 --batch-size 10 --num-workers 0 --cpu "
    "--log-format json"
).split()


@pytest.fixture(scope="session")
def train_options(translation_data, user_dir):
    """Options of fairseq-train for one of fairseq's own models, small, used with our ``--user-dir``."""
    return [str(translation_data), *TINY, "--user-dir", user_dir]


@pytest.fixture(scope="session")
def one_epoch(run_here, train_options, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one_epoch")
    run_here("fairseq-train", *train_options, "--max-epoch", 1, "--save-dir", folder)
    return folder


@pytest.fixture
def trained(one_epoch, tmp_path):
    """A save directory after one epoch, the test's own."""
    return Path(shutil.copytree(one_epoch, tmp_path / "trained"))


class Payload:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.fixture(scope="session")
def payload():
    return Payload
