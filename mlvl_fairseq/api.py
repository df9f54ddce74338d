"""The plugin in Python: a trained or official model that encodes, compares, ranks and classifies. See docs/python.md.

from mlvl_fairseq import load_model

model = load_model("checkpoint_best.pt")
model.rank(["ein roter Ball"], ["a.jpg", "b.jpg"], k=1, lang="de")
"""

import sys
from argparse import Namespace
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Union

import numpy as np

from mlvl_fairseq.arrays import unit_rows
from mlvl_fairseq.data.classification import DATA_SETS
from mlvl_fairseq.data.classification.base import PROMPT
from mlvl_fairseq.data.classification.names import tell_of_equal_names
from mlvl_fairseq.data.classification.prompts import checked_templates, read_templates
from mlvl_fairseq.data.images.given import GivenImages, Picture
from mlvl_fairseq.data.images.policy import BadImagePolicy
from mlvl_fairseq.docstrings import summary
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.metrics.nearest import nearest
from mlvl_fairseq.inference.class_vectors import class_vectors
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.inference.matching import MEMORY, ImageStates, match_pairs, require_match

Vectors = np.ndarray
_FOLDER = "folder"  # the kind of data set whose lists of templates are for any classes


class Ranking(NamedTuple):
    """The best images of each query, best first.

    Attributes:
        indices: int64 [queries, k], which images. scores: float32 [queries, k].
    """

    indices: np.ndarray
    scores: np.ndarray


class Classification(NamedTuple):
    """What pictures show.

    Attributes:
        labels: the best label of each picture.
        scores: float32 [pictures, labels], cosines.
        probabilities: float32 [pictures, labels], softmax of the cosines divided by the model's temperature; None: the
            model has none.
    """

    labels: List[str]
    scores: np.ndarray
    probabilities: Optional[np.ndarray]


def load_model(path, device="cpu", dtype="float32", **frozen) -> "Model":
    """Read a model.

    Args:
        path: a checkpoint of this plugin, an official CLIP file, a Hugging Face folder, or any other file that
            ``mlvl-evaluate --checkpoint`` takes.
        device: where to compute, as ``cuda`` or a `torch.device`.
        dtype: what to compute with: ``float32``, ``bfloat16``, ``float16`` or their `torch.dtype`. Vectors are float32
            in any case.
        frozen: where frozen files are now, if they were moved since training, as ``init_from="ViT-B-32.pt"``; the names
            are the options of ``mlvl-evaluate --help``.

    Raises:
        DataError: the file is missing, damaged, refused, or of no known format.
        UserError: frozen weights differ, an option is not for this kind of model, or there is no such type or device.
    """
    return Model(Encoder.load(path, device=device, dtype=str(dtype).removeprefix("torch."), **frozen))


def list_models() -> Dict[str, str]:
    """What can be trained, ``--arch NAME`` -> what it is: each kind of model, and its named dimensions behind it."""
    from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_INV_REGISTRY, MODEL_REGISTRY

    import mlvl_fairseq

    mlvl_fairseq.register()
    found: Dict[str, str] = {}
    for kind, model in sorted(MODEL_REGISTRY.items()):
        if model.__module__.startswith("mlvl_fairseq."):
            found[kind] = _about_network(model)
            for name in ARCH_MODEL_INV_REGISTRY.get(kind, []):
                if name != kind:
                    ARCH_CONFIG_REGISTRY[name](options := Namespace())
                    own = ", ".join(f"{option} {value}" for option, value in vars(options).items())
                    found[name] = f"{kind} with {own or 'the dimensions that it has by default'}"
    return found


def _about_network(model: type) -> str:
    """What the file of a model's network says."""
    modules = (base.__module__ for base in model.__mro__)
    return summary(sys.modules[next(name for name in modules if name.startswith("mlvl_fairseq.networks."))])


class Model:
    """A model at work. What takes pictures takes paths, Pillow images and arrays (uint8, [H, W], [H, W, 3] or [H, W,
    4]), mixed as they come; what takes texts or pictures also takes their vectors, a float array [n, embed_dim].

    Args:
        encoder: the network with its tokenizer; what evaluators and tools of this plugin take.
    """

    def __init__(self, encoder: Encoder):
        self.encoder = encoder

    def __repr__(self) -> str:
        languages = f", languages {' '.join(self.languages)}" if self.languages else ""
        return f"<Model {self.encoder.family}, {self.embed_dim} dimensions{languages}: {self.encoder.source}>"

    @property
    def languages(self) -> List[str]:
        """The languages learned in sequence; empty for a model that was not trained so, and takes any text."""
        return list(self.encoder.languages)

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the weights: models with the same one give the same vectors."""
        return self.encoder.fingerprint

    @property
    def embed_dim(self) -> int:
        """Dimension of the space of texts and images."""
        return self.encoder.embed_dim

    @property
    def max_length(self) -> int:
        """Longest text in tokens; longer ones are cut."""
        return self.encoder.max_length

    def encode_text(
        self,
        texts: Sequence[str],
        lang: Optional[str] = None,
        normalise: bool = True,
        batch_size: int = 256,
        progress: bool = False,
    ) -> Vectors:
        """Texts of one language to vectors.

        Args:
            texts: a list. lang: their language; a model that treats each of its languages by itself needs it.
            normalise: to length 1. batch_size: texts at a time. progress: show a progress bar.

        Returns:
            float32 [texts, embed_dim].

        Raises:
            UserError: no list, something that is no text, a language that is missing or that the model does not know.
        """
        self._require_language(lang)
        if isinstance(texts, str):
            raise UserError("give a list of texts, not one: each of its letters would be encoded")
        texts = list(texts)
        for place, text in enumerate(texts):
            if not isinstance(text, str):
                raise UserError(f"text {place} is a {type(text).__name__}, not a text")
        vectors = self.encoder.encode_texts(texts, lang, batch_size, "texts" if progress else None)
        return unit_rows(vectors) if normalise else vectors

    def encode_image(
        self,
        pictures: Sequence[Picture],
        normalise: bool = True,
        batch_size: int = 64,
        num_workers: int = 0,
        progress: bool = False,
        bad_image: str = "error",
        max_bad_images: int = 100,
        high_bit_depth: str = "clip",
    ) -> Vectors:
        """Pictures to vectors, with the preprocessing that the model was trained with.

        Args:
            pictures: a list (or one array of several, uint8 [B, H, W, 3]). normalise: to length 1.
            batch_size: pictures at a time. num_workers: processes that read them. progress: show a progress bar.
            bad_image: a picture that cannot be used: ``error``, or ``skip``: its vector is zeros, with a warning.
            max_bad_images: with ``skip``: stop after so many.
            high_bit_depth: pictures of more than 8 bits: ``clip`` or ``scale``, see ``mlvl-evaluate --help``.

        Returns:
            float32 [pictures, embed_dim].

        Raises:
            UserError: no list, or the model takes no pictures. DataError: a picture cannot be used.
        """
        dataset = self._pictures(pictures, high_bit_depth)
        vectors = self._encode(dataset, batch_size, num_workers, progress, BadImagePolicy(bad_image, max_bad_images))
        return unit_rows(vectors) if normalise else vectors

    def encode_features(self, features, normalise: bool = True) -> Vectors:
        """Image features that you have, [n, dims], to vectors: through the model's head, or as they are.

        Raises:
            UserError: the dimension is not what the model takes.
        """
        vectors = self.encoder.encode_features(np.asarray(features))
        return unit_rows(vectors) if normalise else vectors

    def similarity(self, texts, images, lang: Optional[str] = None) -> np.ndarray:
        """Cosines of all texts with all images.

        Args:
            texts: texts, or their vectors. images: pictures, or their vectors. lang: language of the texts.

        Returns:
            float32 [texts, images].

        Raises:
            UserError, DataError: see :meth:`encode_text` and :meth:`encode_image`.
        """
        return unit_rows(self._text_vectors(texts, lang)) @ unit_rows(self._image_vectors(images)).T

    def match(
        self, texts: Sequence[str], pictures: Sequence[Picture], lang: Optional[str] = None, memory: int = MEMORY
    ) -> np.ndarray:
        """Scores of a fusion encoder (CCLM) for all texts with all pictures: higher is better.

        Args:
            texts, pictures: not their vectors. lang: language of the texts.
            memory: MiB of encoded texts and pictures that are kept, half for each.

        Returns:
            float32 [texts, pictures].

        Raises:
            UserError: the model has no fusion encoder. Otherwise see :meth:`encode_text` and :meth:`encode_image`.
        """
        states, _ = self._states(texts, pictures, memory, lang)
        pairs = np.divmod(np.arange(len(texts) * len(pictures)), len(pictures))
        scores = match_pairs(self.encoder, states, list(texts), lang, pairs[1], pairs[0], memory=memory / 2)
        return scores.reshape(len(texts), len(pictures))

    def rank(
        self, queries, images, k: int = 10, lang: Optional[str] = None, rerank: int = 0, memory: int = MEMORY
    ) -> Ranking:
        """The `k` best images of each query, by cosine; exact, in blocks of bounded memory, and of equal scores the
        smaller index is first.

        Args:
            queries: texts, or vectors (of texts or pictures). images: pictures, or vectors of whatever is ranked.
            k: how many; fewer where there are fewer images.
            lang: language of the queries.
            rerank: with a fusion encoder (CCLM): this many best images are put in order by its scores, and their `k`
                best are given; 0: not.
            memory: see :meth:`match`.

        Raises:
            UserError: `k` below 1, more than `rerank` images are asked for, or see :meth:`match`.
        """
        if not rerank:
            found = nearest(self._text_vectors(queries, lang), self._image_vectors(images), k)
            return Ranking(found.indices, found.scores.astype(np.float32))
        if rerank < k:
            raise UserError(f"rerank={rerank} puts {rerank} images in order: give at least k={k}")
        states, vectors = self._states(queries, images, memory, lang)
        found = nearest(self._text_vectors(queries, lang), vectors, rerank).indices
        rows = np.repeat(np.arange(len(found)), found.shape[1])
        scores = match_pairs(self.encoder, states, list(queries), lang, found.ravel(), rows, memory=memory / 2)
        scores = scores.reshape(found.shape)
        order = np.lexsort((found, -scores), axis=1)[:, :k]
        return Ranking(np.take_along_axis(found, order, 1), np.take_along_axis(scores, order, 1))

    def classify(
        self,
        images,
        labels: Sequence[str],
        templates: Union[str, Sequence[str]] = (PROMPT,),
        lang: Optional[str] = None,
    ) -> Classification:
        """Zero-shot classification: a picture is of the label whose prompts are nearest to it.

        Args:
            images: one picture, several, or their vectors.
            labels: names of classes, in the language of the templates.
            templates: prompts in which ``{}`` stands for the label, whose vectors' mean is the class's; or the name of
                a list or file of them, as ``mlvl-evaluate classification --templates`` takes it.
            lang: language of the prompts.

        Raises:
            UserError: fewer than one label, or see :meth:`encode_text` and :meth:`encode_image`.
            DataError: a template without a place for the label.
        """
        self._require_language(lang)
        if isinstance(labels, str) or not len(labels):
            raise UserError("give a list of labels, one at least")
        if isinstance(templates, str):
            templates = read_templates(templates, lang or "", DATA_SETS[_FOLDER].lists)
        tell_of_equal_names(labels, "labels")
        classes = class_vectors(self.encoder, labels, checked_templates(templates), lang)
        one = not isinstance(images, (list, tuple)) and not _is_vectors(images) and getattr(images, "ndim", 3) != 4
        vectors = unit_rows(self._image_vectors([images] if one else images))
        best = nearest(vectors, classes, 1).indices[:, 0]
        scores = vectors @ classes.T
        return Classification([labels[row] for row in best], scores, self._probabilities(scores))

    def _probabilities(self, scores: np.ndarray) -> Optional[np.ndarray]:
        temperature = self.encoder.network.temperature
        if temperature is None:
            return None
        logits = scores.astype(np.float64) / temperature.item()
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)

    def _require_language(self, lang: Optional[str]) -> None:
        """Raises UserError: the model treats each of its languages by itself, and this is none of them."""
        own = self.encoder.own_languages
        if own and lang not in own:
            what = f"does not know language '{lang}'" if lang else "needs lang=, as it treats each language by itself"
            raise UserError(f"{self.encoder.source} {what}; there are: {', '.join(own)}")

    def _pictures(self, pictures: Sequence[Picture], high_bit_depth: str = "clip") -> GivenImages:
        if not isinstance(pictures, (list, tuple)) and getattr(pictures, "ndim", 0) != 4:
            raise UserError(f"give a list of pictures, not a {type(pictures).__name__}")
        return GivenImages(pictures, self.encoder.transform_of(high_bit_depth))

    def _encode(
        self,
        dataset: GivenImages,
        batch_size: int = 64,
        num_workers: int = 0,
        progress: bool = False,
        policy: BadImagePolicy = BadImagePolicy(),
        keep=None,
    ) -> Vectors:
        title = "images" if progress else None
        return self.encoder.encode_image_dataset(
            dataset, dataset.names, batch_size, num_workers, policy, keep=keep, progress=title
        )

    def _states(self, texts: Sequence[str], pictures: Sequence[Picture], memory: float, lang: Optional[str]):
        """What a fusion encoder reads of pictures, and their vectors of length 1."""
        require_match(self.encoder)
        self._require_language(lang)
        if _is_vectors(texts) or _is_vectors(pictures):
            raise UserError("a fusion encoder reads texts and looks at pictures: give them, not their vectors")
        dataset = self._pictures(pictures)
        states = ImageStates(self.encoder, dataset, memory / 2)
        return states, unit_rows(self._encode(dataset, keep=states.keep))

    def _text_vectors(self, texts: Any, lang: Optional[str]) -> Vectors:
        return self._checked(texts) if _is_vectors(texts) else self.encode_text(texts, lang)

    def _image_vectors(self, images: Any) -> Vectors:
        return self._checked(images) if _is_vectors(images) else self.encode_image(images)

    def _checked(self, vectors: Any) -> Vectors:
        """Vectors, of any length; a memory map stays one. Raises UserError: they are of another model."""
        vectors = np.asarray(vectors.detach().float().cpu() if hasattr(vectors, "detach") else vectors)
        if vectors.shape[1] != self.embed_dim:
            raise UserError(f"{self.encoder.source} has {self.embed_dim} dimensions, these vectors {vectors.shape[1]}")
        return vectors


def _is_vectors(given: Any) -> bool:
    """Whether it is a float matrix, of numpy or torch; pictures are of whole numbers."""
    return getattr(given, "ndim", 0) == 2 and "float" in str(given.dtype)
