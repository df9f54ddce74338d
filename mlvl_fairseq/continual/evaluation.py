"""One row of the score matrix: the model after a language, on every language so far."""

from mlvl_fairseq.continual.sequence import Sequence
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.evaluation.evaluators.retrieval import rank_retrieval
from mlvl_fairseq.evaluation.metrics.query_ranks import ranks_path
from mlvl_fairseq.files import write_json
from mlvl_fairseq.inference.encoder import Encoder


def evaluate_step(sequence: Sequence, corpus: Corpus, step: int) -> None:
    """Write the scores that are missing after one language; the teacher's image features serve all languages.

    The rank of every query goes beside a score, before it: where there is a score, there are its ranks.
    """
    split = sequence.settings.eval_split
    encoder = Encoder.load(sequence.folder_of(step).best_checkpoint, device="cuda" if sequence.gpus else "cpu")
    features, names = corpus.features(split, "image"), corpus.images(split)
    for lang in sequence.missing_scores(step):
        image_rows = corpus.rows(split, lang)[:, 0]
        own = {"transform": corpus.image_transform(split)}
        captions = corpus.captions(split, lang)
        scores, ranks = rank_retrieval(encoder, features, names, captions, image_rows, lang, split, own=own)
        path = sequence.score_path(step, lang)
        path.parent.mkdir(parents=True, exist_ok=True)
        ranks.save(ranks_path(path))
        write_json(path, scores)
