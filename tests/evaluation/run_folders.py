"""Folders as a run leaves them, without a run."""

import json

import numpy as np

from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks, ranks_path
from mlvl_fairseq.evaluation.metrics.retrieval import METRICS, recalls
from mlvl_fairseq.runs.protocols import PROTOCOLS

SIGNATURE = "data:{lang}1|split:test|lang:{lang}|images:5|texts:9|tok:bpe"


def write_run(
    folder, method, languages, scores, signature=SIGNATURE, split="test", protocol="sequence", costs=None, **manifest
):
    """``scores(step, j, m)`` gives metric m on language j after language step, None if missing; ``costs(step)`` gives
    (costs.json, done.json) of a step."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(
        json.dumps({"method": method, "languages": languages, "protocol": protocol, **manifest})
    )
    for cell in PROTOCOLS[protocol].cells(languages):
        values = {metric: scores(cell.row, cell.column, m) for m, metric in enumerate(METRICS)}
        if None not in values.values():
            lang = languages[cell.column]
            write_score(folder, cell.step, lang, split, {**values, "signature": signature.format(lang=lang)})
    for index, step in enumerate(PROTOCOLS[protocol].steps(languages) if costs else ()):
        (folder / step.name).mkdir()
        for name, content in zip(("costs.json", "done.json"), costs(index)):
            (folder / step.name / name).write_text(json.dumps(content))
    return folder


def falling(step, j, m):
    """Scores for `write_run`: each language loses 10 points with every one that is learned after it."""
    return 50.0 + m - 10 * (step - j)


def write_score(folder, step, lang, split, values):
    path = folder / "scores" / step / f"{lang}.{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))
    return path


def random_ranks(rng, n_images, skill, n_texts=2):
    """Ranks of a model that is the better the larger `skill` is; every image has 1 to `n_texts` captions."""
    text_to_image = np.repeat(np.arange(n_images), rng.integers(1, n_texts + 1, n_images))
    order = rng.permutation(len(text_to_image))
    image_ranks = rng.geometric(skill, n_images) - 1
    text_ranks = rng.geometric(skill, len(text_to_image)) - 1
    return QueryRanks(
        *(a.astype(np.int32) for a in (np.arange(n_images), text_to_image[order], image_ranks, text_ranks))
    )


def same_images(ranks, rng, skill):
    """Another model on the same images and captions."""
    image_ranks, text_ranks = (rng.geometric(skill, len(a)) - 1 for a in (ranks.image_ranks, ranks.text_ranks))
    return QueryRanks(ranks.images, ranks.text_to_image, image_ranks.astype(np.int32), text_ranks.astype(np.int32))


def write_ranked_run(folder, method, ranks, **manifest):
    """A run with one step a language; its final scores are those of `ranks`: language -> QueryRanks."""
    languages = list(ranks)
    write_run(folder, method, languages, lambda step, j, m: 50.0, **manifest)
    for lang, queries in ranks.items():
        values = {**recalls(queries.image_ranks, queries.text_ranks), "signature": SIGNATURE.format(lang=lang)}
        path = write_score(folder, f"{len(languages) - 1:02d}-{languages[-1]}", lang, "test", values)
        queries.save(ranks_path(path))
    return folder


def write_evaluation(folder, languages, split="test", model="weights", evaluator=None, **settings):
    """A folder as ``mlvl-evaluate --output-dir`` leaves it. Of each language: its scores, or the ranks behind them."""
    folder.mkdir(parents=True)
    named = {"evaluator": evaluator} if evaluator else {}  # earlier versions did not say it
    (folder / "settings.json").write_text(json.dumps({**named, "model": model, "split": split, **settings}))
    for lang, found in languages.items():
        values, path = found, folder / f"{lang}.{split}.json"
        if isinstance(found, QueryRanks):
            found.save(ranks_path(path))
            values = recalls(found.image_ranks, found.text_ranks)
        path.write_text(json.dumps({"signature": SIGNATURE.format(lang=lang), **values}))
    return folder
