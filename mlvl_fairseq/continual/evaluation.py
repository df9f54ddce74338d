"""One row of the score matrix: the model after a language, on every language so far."""

import hashlib
import logging
import shutil
from pathlib import Path
from typing import Dict

import torch

from mlvl_fairseq.checkpoints.source import fingerprint
from mlvl_fairseq.continual.sequence import Sequence
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.feature_manifest import read_feature_manifest
from mlvl_fairseq.evaluation.evaluators.base import PICTURES, TRANSFORM, LeftOut
from mlvl_fairseq.evaluation.evaluators.retrieval import rank_retrieval
from mlvl_fairseq.evaluation.metrics.query_ranks import ranks_path
from mlvl_fairseq.files import atomic_path, write_json
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.json_files import read_json
from mlvl_fairseq.runs.folder import StepFolder
from mlvl_fairseq.version import __version__

logger = logging.getLogger(__name__)


def evaluate_step(sequence: Sequence, corpus: Corpus, step: int) -> None:
    """Write the scores that are missing after one language; the teacher's image features serve all languages.

    The rank of every query goes beside a score, before it: where there is a score, there are its ranks. A language for
    which nothing has changed since the step before, neither a weight that its captions go through nor how they are cut,
    has the scores that it had then.
    """
    split, before = sequence.settings.eval_split, sequence.steps[step].follows
    manifest = read_feature_manifest(corpus.feature_stem(split, "image"))
    own = {TRANSFORM: manifest.transform, PICTURES: manifest.pictures}
    weights = {"init_from": sequence.settings.init_from} if sequence.settings.init_from else {}  # it may have moved
    device = "cuda" if sequence.gpus else "cpu"
    encoder = Encoder.load(sequence.folder_of(step).best_checkpoint, device=device, **weights)
    features, names = corpus.features(split, "image"), corpus.images(split)
    for lang in sequence.missing_scores(step):
        usable, captions = corpus.usable(split, lang), corpus.captions(split, lang)
        image_rows = corpus.rows(split, lang)[usable, 0]
        texts, left_out = [captions[row] for row in usable], {}
        if len(usable) < len(captions):
            logger.warning("%s", corpus.left_out(split, {lang: usable}))
            left_out = LeftOut(*corpus.left_out_images(split, lang, usable)).to_json()
        images = {"features": torch.from_numpy(features[image_rows]), "rows": torch.from_numpy(image_rows)}
        others = (names, left_out, own, device, torch.__version__, __version__)
        parts = (encoder.text_fingerprint(texts, lang), fingerprint(images), *map(str, others))
        digest, entry = hashlib.sha256("\n".join(parts).encode()).hexdigest(), f"{lang}.{split}"
        path = sequence.score_path(step, lang)
        path.parent.mkdir(parents=True, exist_ok=True)
        earlier = None if before is None else sequence.score_path(before, lang)
        if earlier is not None and _digests(sequence.folder_of(before)).get(entry) == digest and earlier.exists():
            logger.info("%s: scored as before, for nothing that its captions go through has changed", lang)
            for source, target in ((ranks_path(earlier), ranks_path(path)), (earlier, path)):
                _copy(source, target)
        else:
            scores, ranks = rank_retrieval(encoder, features, names, texts, image_rows, lang, split, own=own)
            ranks.save(ranks_path(path))
            write_json(path, {**scores, **left_out})
        folder = sequence.folder_of(step)
        write_json(folder.evaluated, {**_digests(folder), entry: digest})


def _digests(folder: StepFolder) -> Dict[str, str]:
    """What the scores of a step were computed from: ``language.split`` -> sha256."""
    return read_json(folder.evaluated, Dict[str, str]) if folder.evaluated.exists() else {}


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
