"""The vectors of a corpus as plain arrays, each set of them in the folder layout of clip-retrieval."""

import importlib.util
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from mlvl_fairseq.data.corpus import SPLITS, Corpus
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.export.base import Export, ExportOptions, Stock, register_export
from mlvl_fairseq.export.samples import CAPTIONS, Samples, corpus_pictures
from mlvl_fairseq.files import atomic_path, write_text

IMAGES, TEXTS = "images", "texts"
KINDS = {IMAGES: "img_emb", TEXTS: "text_emb"}


@dataclass(kw_only=True)
class FeaturesOptions(ExportOptions):
    split: Optional[str] = field(
        default=None, metadata={"help": "whose images and captions are encoded (default: the corpus's last one)"}
    )
    langs: Optional[str] = field(
        default=None, metadata={"help": "languages of the captions, e.g. en,de (default: all that the split has)"}
    )
    device: str = field(default="cpu", metadata={"help": "where to compute, e.g. cuda"})
    shard_rows: int = field(default=1_000_000, metadata={"help": "vectors a file", "least": 1})


class VectorSet(NamedTuple):
    """Attributes: folder: below that of the export. kind: IMAGES or TEXTS. vectors: float32 [n, dims]. names: of each
    row: an image's name, or the caption. columns: of the metadata."""

    folder: str
    kind: str
    vectors: np.ndarray
    names: Sequence[str]
    columns: Dict[str, Sequence[str]]


@register_export("features", "vectors of a corpus: .npy shards with their names, in clip-retrieval's layout")
class Features(Export):
    programs = ("numpy",)
    library_name = "numpy"
    Options = FeaturesOptions
    encoded_pictures = False  # what is stored of given features cannot be tried on pictures

    @property
    def tried_lang(self) -> Optional[str]:
        return self._langs(*self._corpus())[0]

    def fits(self, encoder) -> Optional[str]:
        return None

    def write(self, encoder, folder: Path) -> None:
        corpus, split = self._corpus()
        for one in (*self._images(encoder, corpus, split), *self._texts(encoder, corpus, split)):
            _write(folder / one.folder, one, self.options.shard_rows)

    def samples(self, size: Optional[int]) -> Samples:
        """What is stored can only be tried on what it was computed of."""
        self.encoded_pictures = size is not None
        corpus, split = self._corpus()
        captions = [text for lang in self._langs(corpus, split)[:1] for text in corpus.captions(split, lang)[:CAPTIONS]]
        source = f"the first images and captions of the {split} split of {corpus.folder.resolve().name}, encoded again"
        return Samples(captions, [], corpus_pictures(corpus, split) if size else [], source)

    def load(self, folder: Path, program: str) -> Stock:
        corpus, split = self._corpus()
        lang = self._langs(corpus, split)[0]

        def first(place: str, kind: str, count: int) -> np.ndarray:
            shards = sorted((folder / place / KINDS[kind]).glob("*.npy"))
            return np.concatenate([np.load(shard, mmap_mode="r") for shard in shards[:count]])[:count]

        def pixels(batch):
            return first(IMAGES, IMAGES, len(batch))

        has_images = self.encoded_pictures and (folder / IMAGES).exists()
        return Stock(lambda captions: first(f"{TEXTS}.{lang}", TEXTS, len(captions)), pixels if has_images else None)

    def example(self, encoder, folder: Path) -> str:
        return f"""\
from pathlib import Path

import numpy as np

shards = sorted(Path("{folder.name}/{IMAGES}/{KINDS[IMAGES]}").glob("*.npy"))
images = np.concatenate([np.load(shard) for shard in shards])
names = [name for shard in sorted(Path("{folder.name}/{IMAGES}/names").glob("*.txt"))
         for name in shard.read_text("utf-8").splitlines()]"""

    def notes(self, encoder) -> List[str]:
        said = "`images` and each `texts.LANGUAGE` is an embeddings folder of clip-retrieval"
        if importlib.util.find_spec("pyarrow") is None:
            return [f"{said}, but for `metadata`, which needs pyarrow."]
        return [f"{said}: `clip-retrieval index --embeddings_folder {IMAGES}`."]

    def _corpus(self):
        """The corpus and the split. Raises UserError: none is given, or it has no such split."""
        if self.options.corpus is None:
            raise UserError("features are those of a corpus: give --corpus")
        corpus = Corpus(self.options.corpus)
        splits = [split for split in SPLITS if corpus.languages(split)]
        split = self.options.split or splits[-1]
        if split not in splits:
            raise UserError(f"{corpus.folder} has no split '{split}'; there are: {', '.join(splits)}")
        return corpus, split

    def _langs(self, corpus: Corpus, split: str) -> List[str]:
        langs = self.options.langs.split(",") if self.options.langs else corpus.languages(split)
        for lang in langs:
            corpus.require(split, lang)
        return langs

    def _images(self, encoder, corpus: Corpus, split: str) -> List[VectorSet]:
        names, root = corpus.images(split), corpus.manifest.get("image_root")
        if encoder.network.preprocess is not None and root:
            vectors = encoder.encode_image_files(root, names)
        elif corpus.has_features(split, "inputs") and encoder.network.image_side:
            vectors = encoder.encode_features(corpus.features(split, "inputs"))
        else:
            return []
        columns = {"image_path": names, "caption": _first_captions(corpus, split)}
        return [VectorSet(IMAGES, IMAGES, vectors, names, columns)]

    def _texts(self, encoder, corpus: Corpus, split: str) -> List[VectorSet]:
        names, found = corpus.images(split), []
        for lang in self._langs(corpus, split):
            captions = corpus.captions(split, lang)
            vectors = encoder.encode_texts(captions, lang, progress=f"{lang} captions")
            paths = [names[row] for row in corpus.rows(split, lang)[:, 0]]
            columns = {"image_path": paths, "caption": captions, "language": [lang] * len(captions)}
            found.append(VectorSet(f"{TEXTS}.{lang}", TEXTS, vectors, captions, columns))
        return found


def _first_captions(corpus: Corpus, split: str) -> List[str]:
    """A caption of each image, in the teacher's language if there is one; else an empty one."""
    langs = sorted(corpus.languages(split), key=lambda lang: lang != corpus.source_lang)
    found = [""] * len(corpus.images(split))
    for lang in reversed(langs[:1]):
        for row, caption in reversed(list(zip(corpus.rows(split, lang)[:, 0], corpus.captions(split, lang)))):
            found[row] = caption
    return found


def _write(folder: Path, one: VectorSet, shard_rows: int) -> None:
    """Shards are numbered as clip-retrieval numbers them, with as many digits as the last one has."""
    starts = range(0, len(one.vectors), shard_rows)
    digits = len(str(max(0, len(starts) - 1)))
    if folder.exists():
        shutil.rmtree(folder)  # of an earlier export, which may have more shards
    for name in (KINDS[one.kind], "names"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(starts):
        rows, shard = slice(start, start + shard_rows), f"{number:0{digits}d}"
        with atomic_path(folder / KINDS[one.kind] / f"{KINDS[one.kind]}_{shard}.npy") as temporary:
            with open(temporary, "wb") as file:
                np.save(file, one.vectors[rows])
        write_text(folder / "names" / f"names_{shard}.txt", "".join(f"{name}\n" for name in one.names[rows]))
        if importlib.util.find_spec("pyarrow") is not None:
            _write_metadata(folder, shard, {name: list(values[rows]) for name, values in one.columns.items()})


def _write_metadata(folder: Path, shard: str, columns: Dict[str, List[str]]) -> None:
    import pyarrow
    from pyarrow import parquet

    (folder / "metadata").mkdir(exist_ok=True)
    with atomic_path(folder / "metadata" / f"metadata_{shard}.parquet") as temporary:
        parquet.write_table(pyarrow.table(columns), temporary)
