"""One row of the score matrix: the model after a language, on every language so far."""

import logging

from mlvl_fairseq.continual.sequence import Sequence
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.feature_manifest import read_feature_manifest
from mlvl_fairseq.evaluation.evaluators.base import PICTURES, TRANSFORM, LeftOut
from mlvl_fairseq.evaluation.evaluators.retrieval import rank_retrieval
from mlvl_fairseq.evaluation.metrics.query_ranks import ranks_path
from mlvl_fairseq.files import write_json
from mlvl_fairseq.inference.encoder import Encoder

logger = logging.getLogger(__name__)


def evaluate_step(sequence: Sequence, corpus: Corpus, step: int) -> None:
    """Write the scores that are missing after one language; the teacher's image features serve all languages.

    The rank of every query goes beside a score, before it: where there is a score, there are its ranks.
    """
    split = sequence.settings.eval_split
    manifest = read_feature_manifest(corpus.feature_stem(split, "image"))
    own = {TRANSFORM: manifest.transform, PICTURES: manifest.pictures}
    weights = {"init_from": sequence.settings.init_from} if sequence.settings.init_from else {}  # it may have moved
    device = "cuda" if sequence.gpus else "cpu"
    encoder = Encoder.load(sequence.folder_of(step).best_checkpoint, device=device, **weights)
    features, names = corpus.features(split, "image"), corpus.images(split)
    for lang in sequence.missing_scores(step):
        usable, captions = corpus.usable(split, lang), corpus.captions(split, lang)
        image_rows = corpus.rows(split, lang)[usable, 0]
        texts = [captions[row] for row in usable]
        scores, ranks = rank_retrieval(encoder, features, names, texts, image_rows, lang, split, own=own)
        if len(usable) < len(captions):
            logger.warning("%s", corpus.left_out(split, {lang: usable}))
            scores.update(LeftOut(*corpus.left_out_images(split, lang, usable)).to_json())
        path = sequence.score_path(step, lang)
        path.parent.mkdir(parents=True, exist_ok=True)
        ranks.save(ranks_path(path))
        write_json(path, scores)
