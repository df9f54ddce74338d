"""mCLIP's text encoder from parallel text to an exported XLM-R, by the commands themselves."""

import io
import re
import sys

import pytest
import sacrebleu
import torch
from fairseq.models.roberta import XLMRModel
from processes import free_port, updates_of
from small_mte import write_small_mte

from mlvl_fairseq.checkpoints.comparison import differing, largest_difference
from mlvl_fairseq.checkpoints.formats.xlmr import read_xlmr
from mlvl_fairseq.checkpoints.safe_loading import load_checkpoint_file
from mlvl_fairseq.data.text.sentencepiece import SentencePieceTokenizer, load_xlmr_dictionary
from mlvl_fairseq.picture_world import WorldSettings, get_language, plan_world

PAIRS = ("de-en", "en-fr")  # as the files are called; both directions are trained
SIZES = {"train": 40, "valid": 10, "test": 5}  # pictures with two captions each, which translate each other
DIMENSIONS = (
    "--arch mte_tiny --encoder-layers 1 --encoder-embed-dim 32 --encoder-ffn-embed-dim 64 --encoder-attention-heads 2 "
    "--decoder-layers 1 --decoder-ffn-embed-dim 64"
).split()
TRAINING = (
    "--criterion mte --optimizer adam --lr 1e-3 --clip-norm 2 --max-tokens 400 --num-workers 0 --cpu --log-format json "
    "--no-epoch-checkpoints --bleu-sentences 4 --bleu-beam 2 --max-source-positions 64 --max-target-positions 64 "
    "--best-checkpoint-metric bleu --maximize-best-checkpoint-metric"
).split()
NO_DROPOUT = ["--dropout", 0, "--attention-dropout", 0]
ENCODER, EMBEDDING = "encoder.xlmr.", "encoder.xlmr.embed_tokens.weight"


def captions(split, lang):
    pictures = plan_world(WorldSettings(**SIZES))[split]
    return [get_language(lang).caption(plan) for picture in pictures for plan in picture.plans]


def encode(run_here, folder, text, path):
    """mlvl-encode on lines of text; what it prints goes to a file."""
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    given = io.TextIOWrapper(io.BytesIO("".join(f"{line}\n" for line in text).encode()), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "stdin", given)
        patch.setattr(sys, "stdout", printed)
        run_here("mlvl-encode", "--sentencepiece", folder)
    assert ended.value.code == 0
    path.write_bytes(printed.buffer.getvalue())


@pytest.fixture(scope="module")
def xlmr(succeed, tmp_path_factory):
    """A small XLM-R folder with random weights."""
    folder = tmp_path_factory.mktemp("xlmr")
    text = folder / "text"
    text.write_text("\n".join(line for lang in ("en", "de", "fr") for line in captions("train", lang)), "utf-8")
    succeed("mlvl-sentencepiece", folder, "--train", text, "--vocab-size", 150, "--character-coverage", 1)
    write_small_mte(folder / "model.pt", len(load_xlmr_dictionary(folder)), 32)
    return folder


@pytest.fixture(scope="module")
def data(run_here, succeed, xlmr, tmp_path_factory):
    """The folder that fairseq-preprocess writes, once for every pair of languages."""
    folder = tmp_path_factory.mktemp("parallel")
    for pair in PAIRS:
        for split in SIZES:
            for lang in pair.split("-"):
                encode(run_here, xlmr, captions(split, lang), folder / f"{split}.{pair}.{lang}")
        source, target = pair.split("-")
        prefixes = [f"--{split}pref={folder / split}.{pair}" for split in SIZES]
        dictionaries = ["--srcdict", xlmr / "dict.txt", "--tgtdict", xlmr / "dict.txt"]
        succeed("fairseq-preprocess", "-s", source, "-t", target, *prefixes, *dictionaries, "--destdir", folder / "bin")
    return folder / "bin"


@pytest.fixture(scope="module")
def train(succeed, data, user_dir):
    """fairseq-train with small dimensions: ``train(folder, ...)`` -> best checkpoint."""

    def command(folder, *options):
        task = ["--user-dir", user_dir, "--task", "mte_pretraining", "--save-dir", folder]
        command.log = succeed("fairseq-train", data, *task, *DIMENSIONS, *TRAINING, *options)
        return folder / "checkpoint_best.pt"

    return command


@pytest.fixture(scope="module")
def stage1(train, xlmr, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stage1")
    enough_to_say_words = ["--lr", 1e-2, "--max-epoch", 6, "--validate-interval", 6, "--save-interval", 6]
    return train(folder, "--xlmr", xlmr, "--contrastive-lambda", 0, *enough_to_say_words)


@pytest.fixture(scope="module")
def stage2(train, xlmr, stage1, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stage2")
    options = ["--xlmr", xlmr, "--init-from", stage1, "--train-encoder", "layers", "--max-epoch", 1]
    return train(folder, *options, "--best-checkpoint-metric", "chrf")


def test_checkpoints_leave_out_what_was_frozen(stage1, stage2, xlmr):
    first, second = (load_checkpoint_file(path)["model"] for path in (stage1, stage2))
    trained = {name for name in first if name.startswith(ENCODER)}
    assert trained == {ENCODER + "version"} and EMBEDDING not in second
    assert not [name for name in (*first, *second) if "embed_tokens" in name or "output_projection" in name]
    original = read_xlmr(xlmr).tensors
    for name, tensor in original.items():
        if name.startswith("layers."):
            assert not torch.equal(second[ENCODER + name], tensor), name
    whole = read_xlmr(stage1)  # with what it left out
    assert whole.fingerprint == read_xlmr(xlmr).fingerprint


def test_stage_2_starts_from_stage_1(train, xlmr, stage1, tmp_path):
    options = ["--xlmr", xlmr, "--init-from", stage1, "--train-encoder", "layers", "--lr", 0, "--max-update", 1]
    train(tmp_path, *options, "--disable-validation")
    first, second = (load_checkpoint_file(path)["model"] for path in (stage1, tmp_path / "checkpoint_last.pt"))
    for name, tensor in first.items():
        if name != "frozen_fingerprint":
            assert torch.equal(tensor, second[name]), name


def test_export_is_an_xlmr_for_fairseq(succeed, run_here, stage2, xlmr, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        run_here("mlvl-export", "xlmr", stage2, out, "--sentencepiece", xlmr)
    assert ended.value.code == 0
    hub = XLMRModel.from_pretrained(str(out)).eval()
    tokens = hub.encode(captions("test", "de")[0])
    ids = SentencePieceTokenizer(xlmr).encode_batch(captions("test", "de")[:1])[0]
    assert tokens.tolist() == [0, *ids, 2]
    encoder = read_xlmr(stage2).encoder().eval()
    with torch.no_grad():
        assert torch.equal(hub.extract_features(tokens), encoder(tokens[None]))
    assert not torch.equal(encoder.layers[0].fc1.weight, read_xlmr(xlmr).tensors["layers.0.fc1.weight"])


def hypotheses(printed, letter="D"):
    lines = re.findall(rf"^{letter}-(\d+)\t(?:\S+\t)?(.*)$", printed, re.MULTILINE)
    return [text for _, text in sorted(lines, key=lambda line: int(line[0]))]


def translate(succeed, command, data, user_dir, checkpoint, xlmr, *options):
    bpe = ["--bpe", "sentencepiece", "--sentencepiece-model", xlmr / "sentencepiece.bpe.model"]
    task = ["--user-dir", user_dir, "--task", "mte_pretraining", "--path", checkpoint, "--cpu", "--max-len-b", 30]
    return succeed(command, data, *task, *bpe, "--beam", 2, *options)


def test_generate_and_interactive_translate_alike(succeed, data, user_dir, stage2, xlmr, tmp_path):
    options = ["-s", "de", "-t", "en"]
    printed = translate(
        succeed, "fairseq-generate", data, user_dir, stage2, xlmr, *options, "--sacrebleu", "--gen-subset", "test"
    )
    assert hypotheses(printed, "S") == captions("test", "de") and hypotheses(printed, "T") == captions("test", "en")
    assert len(hypotheses(printed)) == 10 and "BLEU" in printed
    (tmp_path / "input").write_text("".join(line + "\n" for line in captions("test", "de")), encoding="utf-8")
    options += ["--input", tmp_path / "input", "--buffer-size", 10, "--batch-size", 10]
    interactive = translate(succeed, "fairseq-interactive", data, user_dir, stage2, xlmr, *options)
    assert hypotheses(interactive) == hypotheses(printed)


def test_interactive_wants_to_know_the_direction(run, data, user_dir, stage2):
    task = ["--user-dir", user_dir, "--task", "mte_pretraining", "--path", stage2, "--cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.StringIO("ein Haus\n"))
        assert "say with -s and -t what to translate" in run("fairseq-interactive", data, *task).error


def test_best_score_is_that_of_sacrebleu(succeed, data, user_dir, stage2, xlmr):
    """chrF that chose the best checkpoint against sacreBLEU on what fairseq-generate prints for its sentences."""
    options = ["--gen-subset", "valid", "--max-len-a", 1.5, "--max-len-b", 20]  # without -s and -t: all directions
    translations = hypotheses(translate(succeed, "fairseq-generate", data, user_dir, stage2, xlmr, *options))
    assert len(translations) == 4 * 20
    scores, targets = [], ("en", "de", "fr", "en")  # of de-en, en-de, en-fr, fr-en
    for first, target in zip(range(0, 80, 20), targets):
        references = [captions("valid", target)[:4]]
        scores.append(sacrebleu.corpus_chrf(translations[first : first + 4], references).score)
    assert len(set(scores)) == 4
    best = load_checkpoint_file(stage2)["extra_state"]["best"]
    assert best == pytest.approx(sum(scores) / 4, abs=1e-3) and best > 0


def test_stopped_training_ends_as_if_undisturbed(train, xlmr, tmp_path):
    """Also in the middle of an epoch, with sentences drawn anew in each."""
    options = ["--xlmr", xlmr, "--contrastive-lambda", 0, "--virtual-epoch-size", 150, "--bleu-sentences", 0]
    options += ["--best-checkpoint-metric", "loss", "--max-epoch", 3]
    train(tmp_path / "whole", *options)
    train(tmp_path / "stopped", *options, "--max-update", updates_of(tmp_path / "whole" / "checkpoint_last.pt") // 2)
    train(tmp_path / "stopped", *options)
    whole, stopped = (tmp_path / name / "checkpoint_last.pt" for name in ("whole", "stopped"))
    assert updates_of(whole) == updates_of(stopped) and differing(whole, stopped) == []


@pytest.fixture
def train_on_ranks(fork, data, user_dir, tmp_path):
    """fairseq-train on two ranks, without dropout: ``train_on_ranks(name, ...)`` -> last checkpoint."""

    def command(name, *options):
        folder, address = tmp_path / name, f"tcp://127.0.0.1:{free_port()}"
        folder.mkdir()
        task = ["--user-dir", user_dir, "--task", "mte_pretraining", "--save-dir", folder, *NO_DROPOUT]
        ranks = ["--distributed-world-size", 2, "--distributed-no-spawn", "--distributed-init-method", address]
        options = [data, *task, *DIMENSIONS, *TRAINING, *ranks, "--distributed-backend", "gloo", *options]
        logs = [folder / f"log.{rank}" for rank in range(2)]
        processes = [fork(log, "fairseq-train", *options, "--distributed-rank", rank) for rank, log in enumerate(logs)]
        for process, log in zip(processes, logs):
            process.join(timeout=120)
            assert process.exitcode == 0, log.read_text()[-3000:]
        return folder / "checkpoint_last.pt"

    return command


def test_two_ranks_do_what_one_does_in_two_steps(train, train_on_ranks, xlmr, tmp_path):
    """Both take the same batches in the same order; validation has the sentences of both ranks."""
    options = ["--xlmr", xlmr, "--contrastive-lambda", 0, "--max-update", 4]
    train(tmp_path / "one", *options, "--update-freq", 2, *NO_DROPOUT)
    one, two = tmp_path / "one" / "checkpoint_last.pt", train_on_ranks("two", *options)
    assert largest_difference(one, two) < 3e-5
    assert load_checkpoint_file(one)["extra_state"]["best"] == load_checkpoint_file(two)["extra_state"]["best"]


def test_contrast_over_ranks_and_in_chunks(train_on_ranks, xlmr, stage1):
    options = ["--xlmr", xlmr, "--init-from", stage1, "--train-encoder", "layers", "--max-update", 3]
    whole = train_on_ranks("legacy", *options, "--ddp-backend", "legacy_ddp", "--disable-validation")
    chunks = train_on_ranks("chunks", *options, "--encode-chunk", 7, "--disable-validation")
    assert largest_difference(whole, chunks) < 3e-5


@pytest.mark.parametrize(
    "options, message",
    [
        ([], "say with --xlmr which XLM-R the encoder starts from, or else --encoder-from-scratch"),
        (["--xlmr", "nowhere"], "--xlmr nowhere is not there"),
        (["--encoder-from-scratch", "--lang-pairs", "de-fr"], "no parallel text valid.de-fr.{de,fr}.idx"),
        (
            ["--encoder-from-scratch", "--langs", "en,de"],
            "should name each language once, de,en,fr among",
        ),
        (["--encoder-from-scratch", "-s", "de"], "give both -s and -t"),
        (["--encoder-from-scratch"], "trains nothing while the encoder is frozen"),
    ],
)
def test_user_errors_are_one_line(run, data, user_dir, tmp_path, options, message):
    task = ["--user-dir", user_dir, "--task", "mte_pretraining", "--save-dir", tmp_path]
    assert message in run("fairseq-train", data, *task, *DIMENSIONS, *TRAINING, *options).error
