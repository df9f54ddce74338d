"""Kinds of files that commands read. A kind is one function: it puts valid files into a folder and says which command
lines read them. Which of the files are damaged is said in its decorator.
"""

import functools
import gzip
import json
import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Sequence, Tuple

from small_world import MODEL, ORDER, TRAINING, USER_DIR, SmallWorld

Prepare = Callable[[SmallWorld, Path], Sequence[str]]  # world, folder -> command lines


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        name: of the kind. damaged: patterns of the files in the folder that are damaged, one at a time.
        prepare: puts valid files into a folder; gives command lines; ``< FILE`` at the end is a standard input,
            ``@@FILE`` an argument that stands in a file.
        sealed: patterns of those that the project writes with a digest, in which it notices every flipped bit.
        share: how many inputs it gets, relative to the others; less where commands are slow.
        memory: MiB that its commands may take.
    """

    name: str
    damaged: Tuple[str, ...]
    prepare: Prepare
    sealed: Tuple[str, ...] = ()
    share: float = 1.0
    memory: int = 384


KINDS: Dict[str, Kind] = {}


def kind(*damaged: str, **options) -> Callable[[Prepare], Prepare]:
    """Register a kind."""

    def register(prepare: Prepare) -> Prepare:
        name = options.pop("name", prepare.__name__)
        KINDS[name] = Kind(name, damaged, prepare, **options)
        return prepare

    return register


def link(source: Path, target: Path) -> Path:
    """A file or a folder; files are linked, so that it takes no time. What is damaged becomes a file of its own."""
    if source.is_dir():
        shutil.copytree(source, target, copy_function=os.link, dirs_exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, target)
    return target


def evaluate(world: SmallWorld, checkpoint, *more: str) -> str:
    """The line that scores a model on German."""
    files = f"--captions {world.world}/test.de.json --image-root {world.world}/images"
    return shlex.join(["mlvl-evaluate", "--checkpoint", str(checkpoint), "--lang", "de", *shlex.split(files), *more])


def train(world: SmallWorld, corpus: Path, folder: Path, *more: str, lang: str = "de") -> str:
    """The line of one update of German, after English, or of English."""
    task = f"--task cll_retrieval --criterion cll_clip --init-from {world.teacher} --lang {lang}"
    after = f"--learned en --finetune-from-model {world.run_folder}/00-en/checkpoint_best.pt" if lang != "en" else ""
    short = f"--max-update 1 --disable-validation --no-save --save-dir {folder}/save"
    options = shlex.split(f"{task} {after} {MODEL} {TRAINING} {short}")
    return shlex.join(["fairseq-train", str(corpus), "--user-dir", str(USER_DIR), *options, *more])


# Models.
@kind("clip.pt", sealed=("clip.pt",))
def trained_clip(world: SmallWorld, folder: Path):
    return [evaluate(world, link(world.teacher, folder / "clip.pt"))]


@kind("language.pt", "teacher.pt", sealed=("language.pt", "teacher.pt"))
def trained_language(world: SmallWorld, folder: Path):
    """A checkpoint that leaves out what was frozen, and where that is."""
    link(world.run_folder / "01-de" / "checkpoint_best.pt", folder / "language.pt")
    return [evaluate(world, folder / "language.pt", "--init-from", str(link(world.teacher, folder / "teacher.pt")))]


@kind("teacher.pt", share=0.7)
def teacher(world: SmallWorld, folder: Path):
    """Its features are extracted from the beginning."""
    corpus = link(world.plain_corpus, folder / "corpus")
    return [f"mlvl-prepare {corpus} --teacher {link(world.teacher, folder / 'teacher.pt')}"]


@kind("checkpoint_last.pt", sealed=("checkpoint_last.pt",), share=0.7)
def resumed_training(world: SmallWorld, folder: Path):
    link(world.teacher.with_name("checkpoint_last.pt"), folder / "checkpoint_last.pt")
    line = f"fairseq-train {world.teacher_options} --max-epoch 2 --max-update 4 --disable-validation --no-save"
    return [f"{line} --save-dir {folder}"]


@kind("before.pt", "teacher.pt", sealed=("before.pt", "teacher.pt"), share=0.7)
def next_language(world: SmallWorld, folder: Path):
    before = link(world.run_folder / "00-en" / "checkpoint_best.pt", folder / "before.pt")
    own = ["--finetune-from-model", str(before), "--init-from", str(link(world.teacher, folder / "teacher.pt"))]
    return [train(world, world.corpus, folder, *own)]


@kind("clip.pt")
def openai_archive(world: SmallWorld, folder: Path):
    return [evaluate(world, link(world.official_clip / "archive.pt", folder / "clip.pt"))]


@kind("clip.pt")
def openai_state_dict(world: SmallWorld, folder: Path):
    path = link(world.official_clip / "state.pt", folder / "clip.pt")
    return [evaluate(world, path, "--activation", "quick_gelu")]


@kind("clip/model.safetensors")
def huggingface_weights(world: SmallWorld, folder: Path):
    return [evaluate(world, link(world.huggingface, folder / "clip"))]


@kind("clip/config.json")
def huggingface_config(world: SmallWorld, folder: Path):
    return [evaluate(world, link(world.huggingface, folder / "clip"))]


@kind("clip/*")
def huggingface_shards(world: SmallWorld, folder: Path):
    """``model.safetensors.index.json`` and two files, as `transformers` writes large models."""
    from safetensors.torch import load_file, save_file

    link(world.huggingface / "config.json", folder / "clip" / "config.json")
    tensors = load_file(world.huggingface / "model.safetensors")
    names = sorted(tensors)
    parts = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for file, own in parts.items():
        save_file({name: tensors[name] for name in own}, folder / "clip" / file, metadata={"format": "pt"})
    weight_map = {name: file for file, own in parts.items() for name in own}
    size = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / "clip" / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    return [evaluate(world, folder / "clip")]


@kind("*.pt", sealed=("*.pt",))
def trikd_checkpoint(world: SmallWorld, folder: Path):
    """Projectors and the frozen files that belong to them."""
    link(world.mclip, folder)
    own = ["--mte", f"{folder}/mte.pt", "--clip", f"{folder}/clip.pt", "--sentencepiece", str(world.pieces)]
    return [evaluate(world, folder / "trikd.pt", *own)]


@kind("mclip_base.pt")
def released_mclip(world: SmallWorld, folder: Path):
    path = link(world.released_mclip, folder / "mclip_base.pt")
    return [f"mlvl-convert mclip {path} {folder}/out --sentencepiece {world.pieces}"]


@kind("model.pt", "dict.txt")
def xlmr(world: SmallWorld, folder: Path):
    """fairseq's folder of an XLM-R."""
    for path in (world.mte, world.pieces / "dict.txt", world.pieces / "sentencepiece.bpe.model"):
        link(path, folder / ("model.pt" if path == world.mte else path.name))
    corpus = link(world.plain_corpus, folder / "corpus")
    return [
        f"mlvl-export xlmr {folder}/model.pt {folder}/out --sentencepiece {folder}",
        f"mlvl-prepare {corpus} --sentencepiece {folder} --mte {folder}",
    ]


@kind("mte.pt", "xlmr.pt", sealed=("mte.pt", "xlmr.pt"))
def mte_checkpoint(world: SmallWorld, folder: Path):
    link(world.mte, folder / "xlmr.pt")
    path = link(world.trained_mte, folder / "mte.pt")
    start = f"fairseq-train {world.mte_options} --init-from {path} --max-update 1 --disable-validation --no-save"
    return [
        f"mlvl-export xlmr {path} {folder}/out --xlmr {folder}/xlmr.pt --sentencepiece {world.pieces}",
        f"{start} --save-dir {folder}/save",
    ]


# Corpus folders.
@kind("corpus/corpus.json", share=2)
def corpus_manifest(world: SmallWorld, folder: Path):
    corpus = link(world.corpus, folder / "corpus")
    return [f"mlvl-prepare {corpus} --order en,de", train(world, corpus, folder)]


@kind("corpus/corpus.json")
def corpus_manifest_added_to(world: SmallWorld, folder: Path):
    corpus = link(world.corpus, folder / "corpus")
    return [f"mlvl-prepare {corpus} {world.captions}"]


@kind(
    "corpus/captions/*.txt",
    "corpus/images/*.txt",
    "corpus/captions/*.npy",
    sealed=("corpus/captions/train.de.rows.npy",),
)
def corpus_rows(world: SmallWorld, folder: Path):
    corpus = link(world.corpus, folder / "corpus")
    shutil.rmtree(corpus / "bin" / "en+de")
    options = f"{corpus} {folder}/run --order en,de {world.sequence_options} --dry-run"
    return [f"mlvl-prepare {corpus} --order en,de", train(world, corpus, folder), f"mlvl-cll {options}"]


@kind(
    "corpus/features/train.image.*",
    "corpus/features/train.text.*",
    sealed=("corpus/features/train.image.npy", "corpus/features/train.text.npy"),
)
def teacher_features(world: SmallWorld, folder: Path):
    corpus = link(world.corpus, folder / "corpus")
    shutil.rmtree(corpus / "features")
    shutil.copytree(world.corpus / "features", corpus / "features")  # extraction writes into them
    return [train(world, corpus, folder), f"mlvl-prepare {corpus} --teacher {world.teacher}"]


@kind("corpus/features/train.*.states-*", sealed=("corpus/features/train.de.states-*.npy",), share=0.7)
def text_states(world: SmallWorld, folder: Path):
    corpus = link(world.corpus, folder / "corpus")
    line = (
        f"fairseq-train {world.trikd_options} --langs de --cached-states --max-update 1 --disable-validation --no-save"
    )
    return [f"{line} --save-dir {folder}/save".replace(str(world.corpus), str(corpus))]


@kind("corpus/bin/en+de/de/*")
def binarized_captions(world: SmallWorld, folder: Path):
    corpus = link(world.corpus, folder / "corpus")
    return [train(world, corpus, folder)]


@kind("corpus/bin/en+de/*.*", "corpus/bpe/de.300/*")
def corpus_vocabulary(world: SmallWorld, folder: Path):
    corpus = link(world.corpus, folder / "corpus")
    shutil.rmtree(corpus / "bin" / "en+de+ru")
    return [f"mlvl-prepare {corpus} --order en,de,ru", train(world, corpus, folder)]


@kind("corpus/bin/*/english_counts.npy", sealed=("corpus/bin/*/english_counts.npy",))
def english_counts(world: SmallWorld, folder: Path):
    from mlvl_fairseq.data.corpus import Corpus
    from mlvl_fairseq.data.corpus.binarize import count_english_tokens

    count_english_tokens(Corpus(world.corpus))
    corpus = link(world.corpus, folder / "corpus")
    return [train(world, corpus, folder, lang="en")]


@kind("features.npy", "names.txt")
def given_features(world: SmallWorld, folder: Path):
    link(world.corpus / "features" / "test.image.npy", folder / "features.npy")
    link(world.corpus / "images" / "test.txt", folder / "names.txt")
    corpus = link(world.plain_corpus, folder / "corpus")
    captions = f"--lang de --captions {world.world}/test.de.json"
    given = f"--image-features {folder}/features.npy --image-list {folder}/names.txt"
    return [
        f"mlvl-evaluate --checkpoint {world.teacher} {captions} {given}",
        f"mlvl-prepare {corpus} --image-features test={folder}/features.npy --image-list test={folder}/names.txt",
    ]


@kind("parallel/*.bin", "parallel/*.idx", "parallel/dict.*.txt", share=1.5)
def parallel_text(world: SmallWorld, folder: Path):
    data = link(world.parallel, folder / "parallel")
    line = f"fairseq-train {world.mte_options} --max-update 1 --no-save --save-dir {folder}/save"
    return [line.replace(str(world.parallel), str(data))]


# Runs and results.
@kind("run/run.json", "run/*/done.json", "run/*/costs.json", "run/scores/*/*.json", share=2)
def run_report(world: SmallWorld, folder: Path):
    return [f"mlvl-report {link(world.run_folder, folder / 'run')} --output {folder}/report"]


@kind("run/run.json", "run/*/done.json", "run/*/costs.json", "run/scores/*/*.json", share=0.5)
def run_continued(world: SmallWorld, folder: Path):
    run = link(world.run_folder, folder / "run")
    return [f"mlvl-cll {world.corpus} {run} --order en,de {world.sequence_options}"]


@kind("run/run.json", "run/*/done.json", share=0.5)
def run_analysed(world: SmallWorld, folder: Path):
    run = link(world.run_folder, folder / "run")
    return [f"mlvl-analyse attention {run} --output {folder}/analysis"]


@kind("run/scores/01-de/*.npz", "other/scores/01-de/*.npz", sealed=("*/scores/01-de/*.npz",), share=0.8)
def query_ranks(world: SmallWorld, folder: Path):
    runs = [link(world.run_folder, folder / name) for name in ("run", "other")]
    return [f"mlvl-report {shlex.join(map(str, runs))} --output {folder}/report --compare run other --format json"]


@kind("scores/*")
def scores_folder(world: SmallWorld, folder: Path):
    scores = link(world.scores, folder / "scores")
    return [
        f"mlvl-evaluate {world.evaluate_options} --output-dir {scores}",
        f"mlvl-report {scores} --output {folder}/report",
    ]


@kind("world/picture_world.json", "world/test.de.json", share=0.5)
def picture_world(world: SmallWorld, folder: Path):
    drawn = link(world.world, folder / "world")
    return [f"mlvl-picture-world {drawn} --train {world.pictures} --valid 10 --test 10 --languages {ORDER}"]


# Text.
@kind("pieces/*", "text", share=1.5)
def sentencepiece(world: SmallWorld, folder: Path):
    link(world.sentences / "test.de.txt", folder / "text")
    return [f"mlvl-encode --sentencepiece {link(world.pieces, folder / 'pieces')} < {folder}/text"]


@kind("bpe/*", "text", share=1.5)
def bpe_vocabulary(world: SmallWorld, folder: Path):
    link(world.sentences / "test.de.txt", folder / "text")
    return [f"mlvl-encode --tokenizer {link(world.plain_corpus / 'bpe' / 'de.300', folder / 'bpe')} < {folder}/text"]


@kind("text")
def sentencepiece_training(world: SmallWorld, folder: Path):
    link(world.sentences / "train.de.txt", folder / "text")
    return [f"mlvl-sentencepiece {folder}/pieces --train {folder}/text --vocab-size 100"]


@kind("recipe.yaml", share=1.5)
def recipe(world: SmallWorld, folder: Path):
    from mlvl_fairseq.configs import FOLDER

    link(world.folder / "world" / "test.de.json", folder / "unused.json")
    shutil.copyfile(FOLDER / "cll_small.yaml", folder / "recipe.yaml")
    return [f"mlvl-options --config {folder}/recipe.yaml"]


# What stands on the command line.
@kind("method")
def option_method(world: SmallWorld, folder: Path):
    (folder / "method").write_text("er+oewc_with_teir")
    options = f"--method @@{folder}/method --order en,de {world.sequence_options} --dry-run"
    return [f"mlvl-cll {world.corpus} {folder}/run {options}"]


@kind("order")
def option_order(world: SmallWorld, folder: Path):
    (folder / "order").write_text("en,de")
    corpus = link(world.plain_corpus, folder / "corpus")
    lines = (f"mlvl-prepare {corpus} {option} @@{folder}/order" for option in ("--order", "--joint", "--oracle"))
    return [*lines, f"mlvl-cll {corpus} {folder}/run --order @@{folder}/order {world.sequence_options} --dry-run"]


@kind("languages")
def option_languages(world: SmallWorld, folder: Path):
    (folder / "languages").write_text("de")
    captions = world.captions.replace(ORDER, f"@@{folder}/languages").replace("{lang}", "de")
    return [f"mlvl-prepare {folder}/corpus {captions}"]


@kind("lang")
def option_lang(world: SmallWorld, folder: Path):
    (folder / "lang").write_text("de")
    line = evaluate(world, world.teacher, "--output-dir", f"{folder}/scores")
    return [line.replace("--lang de", f"--lang @@{folder}/lang")]


# Pictures and captions: their formats are found, not listed.
def _picture(image_format: str, name: str) -> None:
    @kind("images/test/00000.png", name=f"picture_{name}", share=0.4, memory=1200)
    def picture(world: SmallWorld, folder: Path):
        from PIL import Image

        images = link(world.world / "images", folder / "images")
        path = images / "test" / "00000.png"
        image = Image.open(path).convert("RGB")
        image.load()
        path.unlink()
        image.save(path, format=image_format)
        return [evaluate(world, world.teacher).replace(f"{world.world}/images", str(images))]


@functools.lru_cache(maxsize=None)
def find_formats() -> Tuple[str, ...]:
    """Register a kind for every picture format and caption reader that the project has; the readers that nothing here
    is a sample of."""
    from mlvl_fairseq.data.captions.reading import readers
    from mlvl_fairseq.data.images.reading import IMAGE_FORMATS

    for image_format in IMAGE_FORMATS:
        _picture(image_format, image_format.lower())
    lacking = [name for name in sorted(readers()) if not _captions_of(name)]
    return tuple(lacking)


def _captions_of(reader: str) -> bool:
    """A kind for one reader, with the samples that it reads; False: none of them is of its format."""
    import logging
    import tempfile

    from mlvl_fairseq.data.captions.reading import read_captions
    from mlvl_fairseq.errors import UserError

    fitting = []
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        for name, make in SAMPLES.items():
            files = make(Path(scratch))
            try:
                table = read_captions(
                    files["train"],
                    format=reader,
                    lang="de",
                    split="train",
                    image_list=files.get("images"),
                    on_problem="error",
                )
            except UserError:
                continue
            if set(table.images) <= set(NAMES):
                fitting.append(name)
    logging.disable(logging.NOTSET)
    for name in fitting:
        _register_captions(reader, name)
    return bool(fitting)


def _register_captions(reader: str, sample: str) -> None:
    for packed in (False, True):
        suffix = ".gz" if packed else ""

        @kind("captions/*", name=f"captions_{reader}_{sample}{suffix}", share=0.4 if packed else 0.8)
        def captions(world: SmallWorld, folder: Path, suffix=suffix):
            (folder / "captions").mkdir()
            files = SAMPLES[sample](folder / "captions")
            given = f"--caption-images train={files['images']}" if "images" in files else ""
            if suffix:
                path = files["train"]
                files["train"] = path.with_name(path.name + suffix)
                files["train"].write_bytes(gzip.compress(path.read_bytes()))
                path.unlink()
            line = f"mlvl-prepare {folder}/corpus --languages de --train {files['train']} {given} --bpe-size 300"
            return [
                f"{line} --image-root {world.world}/images",
                f"{line} --format {reader}".replace("/corpus ", "/again "),
            ]


# Samples of captions: functions that write files into a folder and name them.
TEXTS = ("ein roter Ball", "zwei blaue Bälle", "ein grünes Haus – ja", "ein Hund und eine Katze")
NAMES = tuple(f"test/0000{i}.png" for i in range(4))
SAMPLES: Dict[str, Callable[[Path], Dict[str, Path]]] = {}


def sample(write: Callable[[Path], Dict[str, Path]]):
    SAMPLES[write.__name__] = write
    return write


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _lines(rows: Sequence[Sequence[str]]) -> str:
    return "".join("\t".join(row) + "\n" for row in rows)


@sample
def json_list(folder: Path):
    rows = [{"image": name, "caption": [text], "image_id": i} for i, (name, text) in enumerate(zip(NAMES, TEXTS))]
    return {"train": _write(folder / "train.de.json", json.dumps(rows, ensure_ascii=False))}


@sample
def json_lines(folder: Path):
    rows = [json.dumps({"image": name, "caption": text}) for name, text in zip(NAMES, TEXTS)]
    return {"train": _write(folder / "train.de.jsonl", "\n".join(rows) + "\n")}


@sample
def coco_annotations(folder: Path):
    content = {
        "info": {},
        "images": [{"id": i, "file_name": name} for i, name in enumerate(NAMES)],
        "annotations": [{"id": i, "image_id": i, "caption": text} for i, text in enumerate(TEXTS)],
    }
    return {"train": _write(folder / "captions_train.json", json.dumps(content))}


@sample
def karpathy_split(folder: Path):
    images = []
    for i, (name, text) in enumerate(zip(NAMES, TEXTS)):
        sentence = {"raw": text, "tokens": text.split(), "imgid": i, "sentid": i}
        images.append({"filename": name, "imgid": i, "split": "train", "sentids": [i], "sentences": [sentence]})
    return {"train": _write(folder / "dataset_coco.json", json.dumps({"images": images, "dataset": "coco"}))}


@sample
def xm3600_lines(folder: Path):
    rows = [
        {"image/key": name, "image/locale": "de", "de": {"caption": [text], "caption/tokenized": [text]}}
        for name, text in zip(NAMES, TEXTS)
    ]
    return {"train": _write(folder / "captions.jsonl", "".join(json.dumps(row) + "\n" for row in rows))}


@sample
def two_columns(folder: Path):
    return {"train": _write(folder / "train.de.tsv", _lines(list(zip(NAMES, TEXTS))))}


@sample
def three_columns(folder: Path):
    return {
        "train": _write(folder / "train.vision-en-de.tsv", _lines([(n, "a ball", t) for n, t in zip(NAMES, TEXTS)]))
    }


@sample
def flickr_tokens(folder: Path):
    rows = [(f"{name}#{k}", text) for name, text in zip(NAMES, TEXTS) for k in range(2)]
    return {"train": _write(folder / "results.token", _lines(rows))}


@sample
def comma_separated(folder: Path):
    rows = [f'{name},"{text}, ""so"""' for name, text in zip(NAMES, TEXTS)]
    return {"train": _write(folder / "captions.csv", "\n".join(["image,caption", *rows]) + "\n")}


@sample
def aligned_lines(folder: Path):
    images = _write(folder / "images.txt", "\n".join(NAMES) + "\n")
    return {"train": _write(folder / "train.de", "\n".join(TEXTS) + "\n"), "images": images}
