"""Zero-shot classification: an image is of the class whose name, in a prompt, is nearest to it."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Dict, List, Mapping, Optional, Set, Tuple

import numpy as np

from mlvl_fairseq.data.classification import DATA_SETS, LabelledImages
from mlvl_fairseq.data.classification.names import read_labels, read_names
from mlvl_fairseq.data.classification.prompts import checked_templates, prompts_key, read_templates
from mlvl_fairseq.data.images.transforms import CLIP_TRANSFORM
from mlvl_fairseq.data.language_files import LANG, told_what_is_there
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.evaluators.base import (
    TRANSFORM,
    Evaluator,
    ImageFeatures,
    LeftOut,
    Result,
    option,
    register_evaluator,
)
from mlvl_fairseq.evaluation.evaluators.labelled_images import KEYS, LabelledOptions, images_fingerprint
from mlvl_fairseq.evaluation.evaluators.retrieval import checksums
from mlvl_fairseq.evaluation.metrics.classification import METRICS, Classified, accuracies, classify, metric_names
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks
from mlvl_fairseq.evaluation.report.classes import MOST_DRAWN, draw_confusion, write_classes
from mlvl_fairseq.evaluation.signature import Signature
from mlvl_fairseq.inference.class_vectors import class_vectors
from mlvl_fairseq.inference.encoder import Encoder

PROMPTS = "prompts"
_PROMPTS = "prompts (the published one, if nothing is said)"


@dataclass(kw_only=True)
class ClassificationOptions(LabelledOptions):
    template: Optional[List[str]] = option(
        "a prompt, {} stands for the class, as 'photo of {}'; given several times, a class is the mean of its prompts' "
        "normalised vectors",
        None,
        identity=None,
        metavar="TEXT",
        repeated=True,
        group=_PROMPTS,
    )
    templates: Optional[str] = option(
        "prompts of a list, openai or openai_simple, or of a file: one a line, or JSON, a list or {language: list}; "
        "{lang} in its name stands for the language",
        None,
        identity=None,
        metavar="LIST|FILE",
        group=_PROMPTS,
    )
    names: Optional[str] = option(
        "names of all classes: CLASS<TAB>NAME a line, or a name a line in the order of the classes, or JSON; {lang} as "
        "above",
        None,
        identity=None,
        metavar="FILE",
        group=_PROMPTS,
    )
    labels: Optional[str] = option(
        "names in --lang of those classes that have one, as Babel-ImageNet's JSON: {language: [numbers, names]}; other "
        "classes are left out with their images",
        None,
        identity=None,
        metavar="FILE",
        group=_PROMPTS,
    )
    lang: List[str] = option(
        "language of the prompts, or several", "en", metavar="LIST", languages=True, group=_PROMPTS
    )
    reference: bool = option(
        "as the published LilT evaluation does it, mistakes included: FashionMNIST with SVHN's prompt; --top-k 128 for "
        "ImageNet's sets",
        False,
        group=_PROMPTS,
    )
    top_k: Optional[int] = option(
        "classes of an image that count, the others all score -100 (published: 128)", None, least=1, group=_PROMPTS
    )


@dataclass(frozen=True)
class Task:
    """What one language is scored on.

    Attributes:
        images: those of the classes that have a name in the language. names: of their classes.
        templates: of the prompts.
    """

    images: LabelledImages
    names: List[str]
    templates: List[str]


@register_evaluator("classification")
class Classification(Evaluator):
    """Zero-shot image classification: each class is a text, the nearest one is the image's.

    top1, top5, top10: accuracy in % among so many classes (fewer than there are); mean_per_class: the mean of the
    classes' own accuracies. With --output-dir also LANG.SPLIT.classes.csv (a row a class) and LANG.SPLIT.confusion.png.
    """

    Options = ClassificationOptions
    metrics = METRICS
    keys = {
        **KEYS,
        PROMPTS: "a checksum of templates and names of classes, and the template or how many there are",
        "topk": "how many classes of an image count, if not all",
        "ties": "order of equal scores: 'index' lets the class that comes first win",
        TRANSFORM: "what cuts pictures for the model, where it is not CLIP's own preprocessing",
    }
    examples = """\
  mlvl-evaluate classification --checkpoint ViT-B-32.pt --data-set imagenet_v2 --root imagenetv2-matched-frequency
  mlvl-evaluate classification --checkpoint ViT-B-32.pt --data-set cifar100 --root data --templates openai
  mlvl-evaluate classification --checkpoint model.pt --data-set folder --root pictures --lang de \\
      --names namen.txt --template 'ein Foto von {}' --template 'ein Bild von {}'
  # the classes that Babel-ImageNet has a name for, in several languages
  mlvl-evaluate classification --checkpoint trikd.pt --data-set imagenet --root val --lang de,fr,cs \\
      --labels babel_imagenet.json --templates nllb_dist13b_prompts.json --output-dir scores/babel
"""

    options: ClassificationOptions

    def read(self) -> Dict[str, Task]:
        options = self.options
        if options.template and options.templates:
            raise UserError("give either --template TEXT or --templates LIST|FILE")
        if options.names and options.labels:
            raise UserError("give either --names FILE, of all classes, or --labels FILE, of those with a name")
        several = len(options.lang) > 1
        templates = {lang: self._templates(lang) for lang in options.lang}
        if several and options.names and LANG not in options.names:
            raise UserError(f"--names '{options.names}' needs {{lang}} where the language stands: there are several")
        self.pictures = options.read_images()
        tasks = {}
        for lang in options.lang:
            with told_what_is_there(lang, options.names, options.labels):
                tasks[lang] = self._task(lang, templates[lang])
        classes = min(len(task.names) for task in tasks.values())
        if self.top_k is not None and self.top_k > classes:
            raise UserError(f"--top-k {self.top_k}: there are {classes} classes; leave it out")
        self.metrics = metric_names(classes)
        return tasks

    @property
    def top_k(self) -> Optional[int]:
        """How many classes count; None: all."""
        options = self.options
        return options.top_k or (DATA_SETS[options.data_set].reference_top_k if options.reference else None)

    def _templates(self, lang: str) -> List[str]:
        options, kind = self.options, DATA_SETS[self.options.data_set]
        if options.template is not None:
            return checked_templates(options.template, "--template")
        if options.templates:
            with told_what_is_there(lang, options.templates):
                return read_templates(options.templates.replace(LANG, lang), lang, kind.lists)
        return [kind.reference_prompt or kind.prompt] if options.reference else [kind.prompt]

    def _task(self, lang: str, templates: List[str]) -> Task:
        options, images = self.options, self.pictures
        if options.names:
            return Task(images, read_names(options.names.replace(LANG, lang), images.keys), templates)
        if options.labels:
            path, lists = options.labels.replace(LANG, lang), DATA_SETS[options.data_set].lists
            labels = read_labels(path, lang, images.keys, images.numbers, lists)
            images = images.of_classes(labels.classes)
            if not len(images):
                raise UserError(f"{path}: no image is of a class that has a label")
            return Task(images, labels.names, templates)
        return Task(images, images.names, templates)

    def fingerprint(self, data: Task) -> str:
        return images_fingerprint(data.images)

    def same(self, data: Task, signature: Mapping[str, str]) -> bool:
        return super().same(data, signature) and signature.get(PROMPTS) == prompts_key(data.templates, data.names)

    def source(self, data: Task) -> str:
        return f"{data.images.path} with these prompts"

    def images(self, data: Task) -> List[str]:
        return data.images.images

    def encode_images(self, encoder: Encoder, names: List[str]) -> ImageFeatures:
        return self.options.encode(encoder, self.pictures, names, self.options.given)

    def without(self, data: Task, images: Set[str]) -> Tuple[Task, LeftOut]:
        usable = data.images.without(images)
        if not len(usable):
            raise UserError(f"{data.images.path}: none of its {len(data.images)} images can be used")
        gone = [name for name in data.images.images if name in images]
        return replace(data, images=usable), LeftOut(gone, 0)

    def score(self, encoder: Encoder, lang: str, data: Task, images: Optional[ImageFeatures]) -> Result:
        labelled = data.images
        vectors = class_vectors(encoder, data.names, data.templates, lang)
        found = classify(images.of(labelled.images), vectors, labelled.labels, self.top_k)
        scores = accuracies(found.ranks, labelled.labels, len(data.names))
        scores = {name: scores[name] for name in self.metrics}
        rows = np.arange(len(labelled))
        ranks = QueryRanks(checksums(labelled.images), rows, found.ranks, found.ranks)
        return Result(scores, self._signature(encoder, lang, data), ranks, files=self._files(data, found, lang))

    def _signature(self, encoder: Encoder, lang: str, data: Task) -> str:
        options, own = self.options, encoder.network.preprocess
        cut = None if options.image_features or own is None or own.name == CLIP_TRANSFORM else str(own)
        keys = {
            **options.signature_keys(len(data.names)),
            PROMPTS: prompts_key(data.templates, data.names),
            "topk": self.top_k,
            "ties": "index",
            TRANSFORM: cut,
        }
        return str(
            Signature(
                data=self.fingerprint(data),
                split=options.split,
                lang=lang,
                images=len(data.images),
                texts=len(data.names) * len(data.templates),
                tok=encoder.tokenizer.name,
                maxlen=encoder.max_length,
                precision="fp32",
                own={key: value for key, value in keys.items() if value is not None},
            )
        )

    def _files(self, data: Task, found: Classified, lang: str) -> Dict[str, object]:
        images, names = data.images, data.names
        table = partial(
            write_classes,
            keys=images.keys,
            names=names,
            ranks=found.ranks,
            labels=images.labels,
            predicted=found.predicted,
        )
        title = f"{self.options.data_set}, {lang}: {100 * np.mean(found.ranks < 1):.1f} % right"
        picture = partial(
            draw_confusion, names=images.keys, labels=images.labels, predicted=found.predicted, title=title
        )
        return {"classes.csv": table, **({"confusion.png": picture} if len(names) <= MOST_DRAWN else {})}
