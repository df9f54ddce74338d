"""mteb (pip install 'mlvl_fairseq[mteb]'): any model of this plugin on any of its tasks, and tasks of files on disk.

import mteb
from mlvl_fairseq.integrations.mteb import MtebModel, caption_tasks

tasks = caption_tasks("multi30k", "val.{lang}.json", ["de", "fr"], "images")
mteb.evaluate(MtebModel("teir.pt"), tasks, cache=None)
"""

import re
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Type

import numpy as np

from mlvl_fairseq.api import Model, load_model
from mlvl_fairseq.arrays import unit_rows
from mlvl_fairseq.data.captions.reading import read_languages
from mlvl_fairseq.data.captions.table import CaptionTable
from mlvl_fairseq.data.image_names import ImageFolder
from mlvl_fairseq.data.images.given import GivenImages

try:
    import datasets
    from mteb.abstasks import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ScoringFunction
except ImportError as error:
    raise ImportError(f"mteb cannot be imported ({error}): pip install 'mlvl_fairseq[mteb]'") from None

DEFAULT_SUBSET = "default"  # what mteb calls the subset of a task that has one only
_FINDS = ("t2i", "i2t")  # images of a caption, captions of an image
_ANY_LANGUAGE = "mul-Zyyy"  # ISO 639-3 and 15924: several languages, script not known


class MtebModel(AbsEncoder):
    """A model as mteb evaluates it: as an encoder of texts, and of pictures where it has an image tower.

    What mteb calls ``hf_subset`` is the language of texts, so that adapters and cuts of each language are at work, as
    ``mlvl-evaluate --lang`` does it: a language that was not learned goes without (zero-shot).

    Args:
        model: a path, as :func:`mlvl_fairseq.load_model` takes it, or what it gave.
        name: for tables of results; by default that of the file.
        languages: names of subsets -> languages, where they are others: ``{"deu-eng": "de"}``.
        device, frozen: of :func:`mlvl_fairseq.load_model`.

    Raises:
        UserError, DataError: see :func:`mlvl_fairseq.load_model`.
    """

    def __init__(
        self,
        model,
        name: Optional[str] = None,
        languages: Optional[Mapping[str, str]] = None,
        device: str = "cpu",
        **frozen,
    ):
        self.model = model if isinstance(model, Model) else load_model(model, device, **frozen)
        self.languages, encoder = dict(languages or {}), self.model.encoder
        self.mteb_model_meta = ModelMeta.create_empty(
            overwrites={
                "name": f"mlvl_fairseq/{re.sub(r'[^A-Za-z0-9_.-]', '-', name or Path(encoder.source).name)}",
                "revision": encoder.fingerprint,
                "n_parameters": sum(parameter.numel() for parameter in encoder.network.parameters()),
                "max_tokens": encoder.max_length,
                "embed_dim": encoder.embed_dim,
                "framework": ["PyTorch"],
                "similarity_fn_name": ScoringFunction.COSINE,
                "modalities": ["text"] if encoder.network.preprocess is None else ["image", "text"],
            }
        )

    def encode(self, inputs, *, task_metadata, hf_split: str, hf_subset: str, prompt_type=None, **kwargs) -> np.ndarray:
        """See mteb's ``EncoderProtocol``: float32 [inputs, embed_dim]. Of a text beside a picture it is the sum of
        their vectors of length 1, as mteb's own wrapper of CLIP has it."""
        texts: List[str] = []
        images: List[np.ndarray] = []
        for batch in inputs:
            texts += batch.get("text", ())
            if "image" in batch:
                pictures = GivenImages(batch["image"], self.model.encoder.preprocess)
                images.append(self.model.encoder.encode_image_dataset(pictures, pictures.names, progress=None))
        vectors = [np.concatenate(images)] if images else []
        if texts:
            vectors.append(self.model.encoder.encode_texts(texts, self.language(hf_subset)))
        return vectors[0] if len(vectors) == 1 else sum(map(unit_rows, vectors))

    def language(self, hf_subset: str) -> Optional[str]:
        """The language of a subset's texts; None: the task does not say it."""
        lang = self.languages.get(hf_subset, hf_subset)
        return None if lang == DEFAULT_SUBSET else lang


class CaptionTask(AbsTaskRetrieval):
    """Captions of images on this disk: images of a caption (t2i), or captions of an image (i2t).

    Main score: hit_rate_at_1, which is ``img_r1`` (t2i) and ``txt_r1`` (i2t) of ``mlvl-evaluate``, divided by 100. mteb
    turns pictures as their EXIF orientation says, ``mlvl-evaluate`` does not, as CLIP's own preprocessing.

    Args:
        tables: language -> captions. image_root: folder of the images.
    """

    def __init__(self, tables: Mapping[str, CaptionTable], image_root):
        self._tables, self._root = tables, ImageFolder(image_root)
        super().__init__()

    def load_data(self, *args, **kwargs) -> None:
        """Make mteb's tables. Pictures are opened when they are encoded."""
        (split,) = self.metadata.eval_splits
        self.dataset = {lang: {split: self._data(table)} for lang, table in self._tables.items()}
        self.data_loaded = True

    def _data(self, table: CaptionTable) -> Dict[str, Any]:
        names = [f"image-{row}" for row in range(len(table.images))]
        texts = [f"text-{row}" for row in range(len(table))]
        paths = [str(self._root.path(name)) for name in table.images]
        pictures = datasets.Dataset.from_dict({"id": names, "image": paths}).cast_column("image", datasets.Image())
        captions = datasets.Dataset.from_dict({"id": texts, "text": table.captions})
        relevant: Dict[str, Dict[str, int]] = {}
        for text, row in zip(texts, table.image_rows):
            query, found = (text, names[row]) if self.metadata.category == "t2i" else (names[row], text)
            relevant.setdefault(query, {})[found] = 1
        queries, corpus = (captions, pictures) if self.metadata.category == "t2i" else (pictures, captions)
        return {"corpus": corpus, "queries": queries, "relevant_docs": relevant, "top_ranked": None}


def caption_tasks(
    name: str, captions: str, languages: Sequence[str], image_root, split: str = "test", **reading
) -> Tuple[CaptionTask, CaptionTask]:
    """Two tasks of mteb on caption files in any format that ``mlvl-evaluate`` reads: NameT2IRetrieval, a language a
    subset, and NameI2TRetrieval.

    Args:
        name: of the data set. captions: caption file; ``{lang}`` stands for the language. languages: their codes.
        image_root: folder of the images. split: name of the split.
        reading: see :func:`mlvl_fairseq.data.captions.read_captions`.

    Raises:
        UserError: one file for several languages that does not hold them. DataError: a file cannot be read.
    """
    tables = read_languages(captions, languages, image_root=str(image_root), split=split, **reading)
    return tuple(_kind(f"{name}{finds.upper()}Retrieval", tables, split, finds)(tables, image_root) for finds in _FINDS)


def _kind(name: str, tables: Mapping[str, CaptionTable], split: str, finds: str) -> Type[CaptionTask]:
    """The class of a task: mteb looks for what is known of it there."""
    metadata = TaskMetadata(
        name=name,
        description=f"Captions of images: {', '.join(table.path for table in tables.values())}",
        dataset={"path": next(iter(tables.values())).path, "revision": split},
        type="Any2AnyMultilingualRetrieval",
        category=finds,
        modalities=["text", "image"],
        eval_splits=[split],
        eval_langs={lang: [_ANY_LANGUAGE] for lang in tables},
        main_score="hit_rate_at_1",
    )
    return type(name, (CaptionTask,), {"metadata": metadata})
