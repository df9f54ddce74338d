"""Caption files to the text half of a corpus folder: captions, image lists, rows."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Dict, Mapping, Optional

from mlvl_fairseq.codes import language_code
from mlvl_fairseq.data.archives import is_picture
from mlvl_fairseq.data.captions import CaptionTable
from mlvl_fairseq.data.captions.reading import LazyTables
from mlvl_fairseq.data.corpus.corpus import FORMAT, MANIFEST, Corpus
from mlvl_fairseq.data.corpus.extension import refuse_more_alone, refuse_other_content, refuse_other_settings
from mlvl_fairseq.data.corpus.split_building import SplitBuilder
from mlvl_fairseq.data.corpus.vocabularies import english_counts_path
from mlvl_fairseq.data.image_names import ImageFolder, image_name
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.files import write_json
from mlvl_fairseq.process.locks import locked

logger = logging.getLogger(__name__)

Tables = Mapping[str, CaptionTable]  # by language; may be read when they are asked for
STAGED = ".new"  # folder of what is not in its place yet
DEFAULTS = {"source_lang": "en", "bpe_size": 10_000, "image_root": None, "splits": {}}


def build_corpus(
    folder,
    splits: Dict[str, Tables],
    source_lang: Optional[str] = None,
    bpe_size: Optional[int] = None,
    image_root: Optional[str] = None,
    allow_outside_root: bool = False,
    drop_unpaired: bool = False,
    workers: int = 1,
) -> Corpus:
    """Write captions, image lists and rows of every split, and the manifest; or add languages to what is there.

    Of each split the source language is held in memory, and one language for each of the workers.

    Args:
        folder: the corpus folder; made if it is not there.
        splits: caption tables by split and language. The source language, where a split has it, gives the English
            rows; triplets bring their English sentences along. Of a corpus that is there, languages that are given must
            be what it has; those that are not given stay as they are.
        source_lang: the teacher's language. bpe_size: largest BPE vocabulary of a language. image_root: folder of the
            image names, for what reads images later. None: as it is there, else ``en``, 10,000, and not known.
        allow_outside_root: whether image names may leave it.
        drop_unpaired: leave training captions without an English partner out.
        workers: languages that are read at once, each in a process of its own; 1: in this one.

    Raises:
        UserError: the folder holds a corpus of other captions or settings, an image is not under `image_root`, or what
            is to be a language's code is none.
        DataError: by the tables' policies for problems: captions have no English partner.
    """
    folder = Path(folder)
    for tables in splits.values():
        for lang in tables:
            language_code(lang)
    language_code(source_lang or DEFAULTS["source_lang"])
    there = Corpus(folder) if (folder / MANIFEST).exists() else None
    held = there.manifest if there else DEFAULTS
    settings = {
        "source_lang": held["source_lang"] if source_lang is None else source_lang,
        "bpe_size": held["bpe_size"] if bpe_size is None else bpe_size,
    }
    if there:
        refuse_other_settings(there, settings, splits)
    is_new = not folder.exists()
    try:
        _remove_staged(folder)
        parts = {
            split: _build_split(there, split, tables, settings["source_lang"], folder, drop_unpaired, workers)
            for split, tables in splits.items()
        }
        root = held["image_root"]
        if image_root:
            first_images = {split: next(iter(part.images)) for split, part in parts.items()}
            root = checked_image_root(image_root, first_images, allow_outside_root)
        summaries = {**held["splits"], **{split: part.summary() for split, part in parts.items()}}
        _write(folder, parts, {"format": FORMAT, **settings, "image_root": root, "splits": summaries})
    finally:
        _remove_staged(folder)
        if is_new and folder.exists() and not any(folder.iterdir()):
            folder.rmdir()
    if there:
        _tell_what_was_added(there, summaries)
    return Corpus(folder)


def _remove_staged(folder: Path) -> None:
    shutil.rmtree(folder / STAGED, ignore_errors=True)


def checked_image_root(image_root, first_images: Dict[str, str], allow_outside: bool = False) -> str:
    """The absolute path of a folder of images.

    Args:
        image_root: the folder.
        first_images: an image name of each split, which must be in it.
        allow_outside: whether they may lead out of it.

    Raises:
        UserError: one is not there. DataError: one leads out.
    """
    root = Path(image_root).resolve()
    for split, name in first_images.items():
        if not is_picture(ImageFolder(root, allow_outside).path(name)):
            raise UserError(
                f"--image-root {image_root}: there is no {root / name}, the first image of the {split} split; give the "
                "folder that image names start from (--check-images leaves out captions of missing images)"
            )
    return str(root)


def set_image_root(corpus: Corpus, image_root, allow_outside: bool = False) -> Corpus:
    """Let a corpus look for its images elsewhere.

    Raises:
        UserError: its images are not there.
    """
    first_images = {split: corpus.images(split)[0] for split in corpus.manifest["splits"]}
    root = checked_image_root(image_root, first_images, allow_outside)
    with locked(corpus.folder):
        write_json(corpus.folder / MANIFEST, {**Corpus(corpus.folder).manifest, "image_root": root})
    return Corpus(corpus.folder)


def _build_split(
    there: Optional[Corpus],
    split: str,
    tables: Tables,
    source_lang: str,
    folder: Path,
    drop_unpaired: bool,
    workers: int,
) -> SplitBuilder:
    """Languages that the corpus has come first, so that what is new is numbered behind."""
    held = there.languages(split) if there else list(tables)
    part = SplitBuilder(split, source_lang, folder / STAGED, drop_unpaired and split == "train", workers)
    if there:
        tables = _as_spelled_there(tables, there, split)
        if set(held) - set(tables):
            part.keep(there)
            refuse_more_alone(there, split, part)
    part.add(_only(tables, [lang for lang in held if lang in tables]))
    if there:
        refuse_other_content(there, split, part)
    part.add(_only(tables, [lang for lang in tables if lang not in held]))
    part.note_single_languages(tables)
    return part


def _only(tables: Tables, languages) -> Tables:
    return LazyTables(languages, tables.__getitem__)


def _as_spelled_there(tables: Tables, there: Corpus, split: str) -> Tables:
    """Earlier versions kept names as files spelled them; a corpus of theirs goes on with its spellings."""
    names = {name: image_name(name, there.manifest["image_root"]) for name in there.images(split)}
    spelled = {usual: name for name, usual in names.items() if usual != name}
    if not spelled:
        return tables

    def read(lang: str) -> CaptionTable:
        table = tables[lang]
        return replace(table, images=[spelled.get(name, name) for name in table.images])

    return LazyTables(tables, read)


def _write(folder: Path, parts: Dict[str, SplitBuilder], manifest: dict) -> None:
    paths = Corpus.__new__(Corpus)  # only its paths: there may be no manifest to read yet
    paths.folder = folder
    for sub in ("images", "captions", "features", "bpe", "bin"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if "train" in parts and not _holds(paths.english_path("train"), parts["train"].english_text):
            english_counts_path(paths).unlink(missing_ok=True)  # counted again when asked for
        for part in parts.values():
            part.write(paths)
        write_json(folder / MANIFEST, manifest)  # last: its presence says the corpus is complete


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_bytes() == text.encode("utf-8")


def _tell_what_was_added(there: Corpus, summaries: Dict[str, dict]) -> None:
    for split, summary in summaries.items():
        before = there.manifest["splits"][split]
        languages = [lang for lang in summary["captions"] if lang not in before["captions"]]
        more = {kind: summary[kind] - before[kind] for kind in ("images", "english")}
        if languages:
            logger.info(
                "%s: added %s, with %d more images and %d more English sentences%s",
                split,
                ", ".join(languages),
                more["images"],
                more["english"],
                "; run mlvl-prepare --teacher again for their features" if any(more.values()) else "",
            )
