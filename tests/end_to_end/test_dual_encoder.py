"""Training of a dual encoder on a text tower's own tokens: resumed, continued with adapters, read from its file."""

import json

import pytest

from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file
from mlvl_fairseq.data.corpus import Corpus

SIZES = (
    "--arch lilt_nano --embed-dim 16 --image-size 32 --image-width 24 --image-layers 1 --text-width 24 --text-heads 2 "
    "--max-length 20 --eval-max-length 30"
).split()
TRAINING = (
    "--criterion clip_contrastive --optimizer grouped_adamw --lr 1e-3 --lr-scheduler warmup_constant --warmup-updates 2"
    " --batch-size 16 --best-checkpoint-metric r_mean --maximize-best-checkpoint-metric --no-epoch-checkpoints "
    "--num-workers 0 --cpu --log-format json --seed 1"
).split()


@pytest.fixture(scope="module")
def tokenizer_folder(corpus_without_teacher, tmp_path_factory):
    """A BERT's with the letters of English captions, and their words as far as they are frequent."""
    text = " ".join(Corpus(corpus_without_teacher).captions("train", "en")).lower()
    letters = sorted(set(text) - {" "})
    words = sorted({word for word in text.split() if word.isalpha() and text.count(word) > 9 and len(word) > 1})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters), *words]
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    return folder


@pytest.fixture(scope="module")
def corpus(succeed, corpus_without_teacher, tokenizer_folder):
    succeed("mlvl-prepare", corpus_without_teacher, "--wordpiece", tokenizer_folder, "--cleaning", "lilt")
    return corpus_without_teacher


@pytest.fixture(scope="module")
def train(run, user_dir, corpus, tokenizer_folder):
    def train(folder, *options):
        task = ["--user-dir", user_dir, "--task", "image_text_retrieval", "--tokenizer-folder", tokenizer_folder]
        task += ["--cleaning", "lilt"]
        return run("fairseq-train", corpus, *task, *SIZES, *TRAINING, "--save-dir", folder, *options)

    return train


def validation(checkpoint):
    """r_mean of the last epoch."""
    return load_checkpoint_file(checkpoint)["extra_state"]["val_loss"]


@pytest.fixture(scope="module")
def trained(train, tmp_path_factory):
    """Two epochs, in two runs."""
    folder = tmp_path_factory.mktemp("full")
    for epochs in (1, 2):
        ended = train(folder, "--max-epoch", epochs, "--preset", "full")
        assert ended.status == 0, ended.err[-3000:]
    return folder / "checkpoint_last.pt"


def score(succeed, world, checkpoint):
    arguments = ["--checkpoint", checkpoint, "--captions", world / "valid.en.json", "--lang", "en"]
    return json.loads(succeed("mlvl-evaluate", *arguments, "--image-root", world / "images"))


def test_a_model_with_adapters_goes_on_from_it_and_evaluation_gives_its_validation(
    train, succeed, world, trained, tmp_path
):
    options = ("--max-epoch", 1, "--preset", "lwa+ln+lora_text", "--init-from", trained)
    ended = train(tmp_path / "adapted", *options)
    assert ended.status == 0, ended.err[-3000:]
    adapted = tmp_path / "adapted" / "checkpoint_last.pt"
    assert adapted.stat().st_size < trained.stat().st_size / 2  # what is frozen is in the other file
    for checkpoint in (trained, adapted):
        found = score(succeed, world, checkpoint)
        assert found["r_mean"] == pytest.approx(validation(checkpoint), abs=1e-3)
    assert "-lilt|maxlen:30|" in found["signature"]


@pytest.mark.parametrize("options, message", [
    (["--preset", "lwx"], "--preset lwx: there are full, lit"),
    (["--text-tower", "clip_text_b32"], "takes ids of a vocabulary tokenizer, not wordpiece's: give --tokenizer"),
    (["--vocabulary", "en"], "--vocabulary en grows CLIP's: it does not go with --tokenizer-folder"),
    (["--max-length", "90"], "--max-length 90 is more than the text tower's 80 tokens"),
    (["--image-heads", "5"], "width 24 is not a multiple of the number of attention heads 5"),
])  # fmt: skip
def test_what_does_not_fit_is_one_line(train, tmp_path, options, message):
    assert message in train(tmp_path / "run", *options).error
    assert not (tmp_path / "run").exists()
