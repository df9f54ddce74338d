"""One tiny picture world, its corpus and an English teacher, made by the commands themselves; and ways to run them."""

import contextlib
import io
import json
import logging
import multiprocessing
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch._dynamo  # as ranks and `host_syncs` do: once, before processes are forked
from composing import compose_once
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from host_syncs import updates_that_do_not_wait
from small_examples import write_small_examples
from small_mte import write_small_mte
from small_streams import write_small_streams

from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.feature_manifest import array_path, feature_manifest_path, read_feature_manifest
from mlvl_fairseq.data.features import FeatureWriter
from mlvl_fairseq.data.text.sentencepiece import load_xlmr_dictionary
from mlvl_fairseq.picture_world import write_classes

LANGUAGES = "en,de,ru"
TRIKD_WIDTH = 32
# A model that trains in no time: what is left is its token embedding of 49,000 rows.
DIMENSIONS = (
    "--arch clip_tiny_vit --embed-dim 32 --text-width 32 --text-layers 1 --text-heads 2 --image-size 32 "
    "--patch-size 16 --vision-width 32 --vision-layers 1 --vision-heads 2"
).split()
TRAINING = (
    "--optimizer row_adamw --lr 1e-3 --lr-scheduler warmup_constant --warmup-updates 2 --clip-norm 1 --batch-size 16 "
    "--required-batch-size-multiple 1 --best-checkpoint-metric r_mean --maximize-best-checkpoint-metric "
    "--no-epoch-checkpoints --num-workers 0 --cpu --log-format json"
).split()


@dataclass
class Ended:
    """How a command ended: exit status, and what it wrote to standard output and standard error."""

    status: int
    out: str
    err: str

    @property
    def error(self):
        """The one line that a user error must be."""
        lines = [line for line in self.err.splitlines() if "error: " in line]
        assert self.status == 2 and len(lines) == 1 and "Traceback" not in self.err, self.err[-3000:]
        assert self.err.rstrip().endswith(lines[0])
        return lines[0].partition("error: ")[2]


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """More threads a process are slower, and those of a math library would hang in a job that is forked from here."""
    torch.set_num_threads(1)


@pytest.fixture
def no_update_waits():
    """Trainings fail in which an update makes Python wait for its device, see :mod:`host_syncs`."""
    with updates_that_do_not_wait():
        yield


@pytest.fixture(scope="session")
def run(run_here):
    """``run("fairseq-train", *arguments)`` runs a command in this process as the interpreter would: -> `Ended`."""

    def command(name, *arguments):
        out, err = io.StringIO(), io.StringIO()
        status = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                try:
                    run_here(name, *arguments)
                except Exception:
                    status = 1
                    sys.excepthook(*sys.exc_info())
            except SystemExit as end:
                status = end.code or 0
        return Ended(status, out.getvalue(), err.getvalue())

    return command


@pytest.fixture(scope="session")
def succeed(run):
    """As `run`, for what must end with exit status 0; gives what it printed."""

    def command(name, *arguments):
        ended = run(name, *arguments)
        assert ended.status == 0, ended.err[-3000:]
        return ended.out

    return command


@pytest.fixture(scope="session")
def composed(cll):
    """The options of learning a language have been composed once, so that processes forked from here need not do it."""
    compose_here(cll("en"))


def compose_here(arguments):
    from mlvl_fairseq.continual.training_options import parse_training

    compose_once()
    convert_namespace_to_omegaconf(parse_training([str(argument) for argument in arguments]))


@pytest.fixture
def fork(run_here, composed):
    """``fork(log, "fairseq-train", *arguments)`` starts a command in a process and a process group of its own, with
    everything imported already; what it writes goes to `log`. It is ended with the test."""
    started = []

    def command(log, name, *arguments):
        if name == "fairseq-train" and not started:  # a test chooses its components once
            compose_here(arguments)
        process = multiprocessing.get_context("fork").Process(target=_forked, args=(log, run_here, name, arguments))
        process.start()
        started.append(process)
        return process

    yield command
    for process in started:
        process.kill()
        process.join()


def _forked(log, run_here, name, arguments):
    os.setsid()
    with open(log, "wb") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    sys.stdout = sys.stderr = open(2, "w", buffering=1, closefd=False)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s", force=True)
    run_here(name, *arguments)


@pytest.fixture(scope="session")
def world(succeed, tmp_path_factory):
    """60 pictures to train on, 12 each for validation and test, with two captions each in three languages."""
    folder = tmp_path_factory.mktemp("picture") / "world"
    succeed("mlvl-picture-world", folder, "--train", 60, "--valid", 12, "--test", 12, "--languages", LANGUAGES)
    return folder


@pytest.fixture(scope="session")
def caption_patterns(world):
    """The options of mlvl-prepare that name the world's caption files."""
    files = {"train": "train.vision-en-{lang}.tsv", "valid": "valid.{lang}.json", "test": "test.{lang}.json"}
    return ["--languages", LANGUAGES, *(f"--{split}={world / name}" for split, name in files.items())]


@pytest.fixture(scope="session")
def corpus_without_teacher(succeed, world, caption_patterns, tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus") / "pictures"
    succeed("mlvl-prepare", folder, *caption_patterns, "--image-root", world / "images", "--order", LANGUAGES)
    return folder


@pytest.fixture(scope="session")
def wordpiece_corpus(succeed, corpus_without_teacher, world, caption_patterns, tmp_path_factory):
    """A corpus whose English captions are cut with a WordPiece vocabulary of their words, which lies beside it."""
    folder = tmp_path_factory.mktemp("wordpiece")
    captions = (corpus_without_teacher / "captions" / "train.en.txt").read_text()
    words = sorted(set(re.findall(r"\w+|[^\w\s]", captions.lower())))
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens))
    options = [*caption_patterns, "--image-root", world / "images", "--order", "en", "--wordpiece", folder]
    succeed("mlvl-prepare", folder / "corpus", *options)
    return folder / "corpus"


@pytest.fixture(scope="session")
def teacher_options(user_dir):
    """fairseq-train's arguments for an English teacher, but for corpus and ``--save-dir``."""
    task = ["--user-dir", user_dir, "--task", "image_text_retrieval", "--criterion", "clip_contrastive"]
    return [*task, *DIMENSIONS, *TRAINING, "--seed", 1]


@pytest.fixture(scope="session")
def teacher(succeed, corpus_without_teacher, teacher_options, tmp_path_factory):
    """The checkpoint of an English dual encoder after two epochs."""
    folder = tmp_path_factory.mktemp("teacher")
    succeed("fairseq-train", corpus_without_teacher, *teacher_options, "--max-epoch", 2, "--save-dir", folder)
    return folder / "checkpoint_best.pt"


@pytest.fixture(scope="session")
def corpus(succeed, corpus_without_teacher, teacher):
    """The corpus with the teacher's features; not to be changed by any test."""
    succeed("mlvl-prepare", corpus_without_teacher, "--teacher", teacher)
    return corpus_without_teacher


@pytest.fixture(scope="session")
def two_data_sets(succeed, corpus, teacher, tmp_path_factory):
    """A corpus of two data sets: the one of all tests, ``picture0``, with 120 captions, and ``small``, with 40."""
    folder = tmp_path_factory.getbasetemp() / "small" / "world"
    sizes = ["--train", 20, "--valid", 12, "--test", 12, "--seed", 5]
    succeed("mlvl-picture-world", folder, *sizes, "--languages", LANGUAGES)
    files = {"train": "train.vision-en-{lang}.tsv", "valid": "valid.{lang}.json", "test": "test.{lang}.json"}
    small = tmp_path_factory.mktemp("data_sets") / "small"
    patterns = [f"--{split}={folder / name}" for split, name in files.items()]
    succeed("mlvl-prepare", small, "--languages", LANGUAGES, *patterns, "--image-root", folder / "images")
    succeed("mlvl-prepare", small, "--teacher", teacher)
    succeed("mlvl-prepare", small.parent / "both", "--join", corpus, small, "--order", LANGUAGES)
    return small.parent / "both"


@pytest.fixture
def own_corpus(corpus, tmp_path):
    """A copy of the corpus, to damage."""
    return shutil.copytree(corpus, tmp_path / "corpus")


@pytest.fixture
def other_features(own_corpus):
    """``other_features(split, kind, dim)`` replaces the teacher's features in the test's own corpus by some of another
    dimension, of the same teacher and rows; gives their file."""

    def write(split, kind, dim):
        corpus = Corpus(own_corpus)
        stem = corpus.feature_stem(split, kind)
        manifest, names = read_feature_manifest(stem), corpus.english(split) if kind == "text" else corpus.images(split)
        for path in (array_path(stem), feature_manifest_path(stem)):
            path.unlink()
        with FeatureWriter(stem, names, dim, manifest.model, manifest.weights_fingerprint) as writer:
            writer.write(np.random.default_rng(0).normal(size=(len(names), dim)))
        return array_path(stem)

    return write


@pytest.fixture(scope="session")
def cll(corpus, teacher, user_dir):
    """fairseq-train's arguments for one language, but for ``--save-dir``: ``cll("de", learned="en", ...)``."""

    def options(lang, learned=None, method="cll_clip"):
        from mlvl_fairseq.continual.methods import as_arguments, method_options

        task = ["--user-dir", user_dir, "--task", "cll_retrieval", "--criterion", "cll_clip", "--init-from", teacher]
        place = ["--lang", lang, *(["--learned", learned] if learned else [])]
        return [corpus, *task, *place, *DIMENSIONS, *TRAINING, "--seed", 1, *as_arguments(method_options(method))]

    return options


@pytest.fixture(scope="session")
def sequence_options(teacher):
    """mlvl-cll's options for tiny languages, but for method and order."""
    own = ["--init-from", teacher, "--lr", "1e-3", "--batch-size", 16, "--max-epoch", 1, "--seed", 1]
    return [*own, *DIMENSIONS, "--num-workers", 0, "--cpu"]


@pytest.fixture(scope="session")
def learn(succeed, corpus, sequence_options, composed):
    """``learn(folder, method, order, ...)``: mlvl-cll on the corpus; gives the folder."""

    def sequence(folder, method="cll_clip", order="en,de", *more):
        succeed("mlvl-cll", corpus, folder, "--method", method, "--order", order, *sequence_options, *more)
        return Path(folder)

    return sequence


@pytest.fixture(scope="session")
def pieces(corpus, succeed, tmp_path_factory):
    """A SentencePiece folder in the layout of XLM-R's."""
    folder = tmp_path_factory.mktemp("pieces")
    succeed("mlvl-sentencepiece", folder, "--train", *corpus.glob("captions/train.??.txt"), "--vocab-size", 150)
    return folder


@pytest.fixture(scope="session")
def streams(succeed, tmp_path_factory):
    """Files of CCLM's streams, and ``pieces``: a SentencePiece folder for them."""
    folder = tmp_path_factory.mktemp("streams")
    write_small_streams(folder)
    succeed("mlvl-sentencepiece", folder / "pieces", "--train", folder / "train.txt", "--vocab-size", 36)
    return folder


@pytest.fixture(scope="session")
def examples(tmp_path_factory):
    """Files of examples with pictures; ``pieces`` of `streams` has their words."""
    return write_small_examples(tmp_path_factory.mktemp("examples"))


@pytest.fixture(scope="session")
def parallel(succeed, corpus, pieces, tmp_path_factory):
    """A folder of fairseq-preprocess with German and English captions of the same pictures; and an XLM-R."""
    folder = tmp_path_factory.mktemp("parallel")
    for split in ("train", "valid"):
        for lang in ("de", "en"):
            shutil.copyfile(corpus / "captions" / f"{split}.{lang}.txt", folder / f"{split}.{lang}")
    succeed("mlvl-encode", "--sentencepiece", pieces, "--output-dir", folder / "pieces", *sorted(folder.glob("*.??")))
    files = [f"--{split}pref={folder / 'pieces' / split}" for split in ("train", "valid")]
    dictionaries = ["--srcdict", pieces / "dict.txt", "--tgtdict", pieces / "dict.txt"]
    succeed("fairseq-preprocess", "-s", "de", "-t", "en", *files, *dictionaries, "--destdir", folder / "bin")
    write_small_mte(folder / "model.pt", len(load_xlmr_dictionary(pieces)), TRIKD_WIDTH)
    for name in ("dict.txt", "sentencepiece.bpe.model"):
        (folder / name).write_bytes((pieces / name).read_bytes())
    return folder


@pytest.fixture(scope="session")
def new_mte(pieces, tmp_path_factory):
    """``new_mte(seed)``: the file of a small untrained text encoder."""
    size = len(load_xlmr_dictionary(pieces))
    return lambda seed: write_small_mte(tmp_path_factory.mktemp("mte") / "mte.pt", size, TRIKD_WIDTH, seed=seed)


@pytest.fixture(scope="session")
def mte(new_mte):
    return new_mte(0)


@pytest.fixture(scope="session")
def trikd_corpus(corpus, pieces, mte, succeed, tmp_path_factory):
    """The corpus with captions in pieces, and with the states of `mte`."""
    folder = tmp_path_factory.mktemp("trikd") / "corpus"
    shutil.copytree(corpus, folder)
    succeed("mlvl-prepare", folder, "--sentencepiece", pieces, "--mte", mte)
    return folder


@pytest.fixture(scope="session")
def trikd_options(trikd_corpus, pieces, mte, user_dir):
    """fairseq-train's arguments for TriKD, but for ``--save-dir``."""
    task = ["--user-dir", user_dir, "--task", "trikd", "--criterion", "trikd", "--sentencepiece", pieces, "--mte", mte]
    width = ["--encoder-embed-dim", TRIKD_WIDTH, "--encoder-ffn-embed-dim", 2 * TRIKD_WIDTH]
    return [trikd_corpus, *task, "--arch", "trikd_tiny", *width, *TRAINING, "--lr", 3e-3, "--seed", 1]


@pytest.fixture(scope="session")
def read_json():
    return lambda path: json.loads(Path(path).read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def english(cll, succeed, tmp_path_factory):
    """Checkpoints after English by method: ``english("cll_clip")``, each trained once."""
    trained = {}

    def checkpoint(method):
        if method not in trained:
            folder = tmp_path_factory.mktemp("english")
            succeed("fairseq-train", *cll("en", method=method), "--max-epoch", 1, "--save-dir", folder)
            trained[method] = folder / "checkpoint_best.pt"
        return trained[method]

    return checkpoint


@pytest.fixture(scope="session")
def classes(tmp_path_factory):
    """Folders of classes, a picture or two each."""
    folder = tmp_path_factory.mktemp("classes")
    write_classes(folder, seed=1, number=1, languages=[])
    return folder / "classes"
