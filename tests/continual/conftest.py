import json

import numpy as np
import pytest
from sequence_of_three import CAPTIONS, EMBED_DIM, ORDER, Learning, new_model

from mlvl_fairseq.data.captions import read_captions
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.corpus.build import build_corpus
from mlvl_fairseq.data.corpus.prepare import prepare_vocabularies
from mlvl_fairseq.data.corpus.vocabularies import language_vocabulary
from mlvl_fairseq.picture_world import WorldSettings, get_language, plan_world
from mlvl_fairseq.tasks._base import MlvlTask


@pytest.fixture(scope="session")
def three_languages(tmp_path_factory):
    """A corpus of 16 pictures with two captions each in English, of fewer in German, of fewer still in Russian."""
    folder = tmp_path_factory.mktemp("three")
    pictures = plan_world(WorldSettings(train=16, valid=1, test=1))["train"]
    for lang, number in zip(ORDER, CAPTIONS):
        say = get_language(lang).caption
        rows = [{"image": picture.name, "caption": say(plan)} for picture in pictures for plan in picture.plans][
            :number
        ]
        (folder / f"{lang}.json").write_text(json.dumps(rows), encoding="utf-8")
    corpus = build_corpus(
        folder / "corpus", {"train": {lang: read_captions(folder / f"{lang}.json") for lang in ORDER}}, bpe_size=300
    )
    for lang in ORDER:
        language_vocabulary(corpus, lang, train=True)
    prepare_vocabularies(corpus, ORDER)
    return corpus


@pytest.fixture(scope="session")
def teacher_features():
    """The teacher's features: of images and of English sentences, more than there are."""
    generator = np.random.default_rng(7)
    return {kind: generator.normal(size=(100, EMBED_DIM)).astype(np.float32) for kind in ("image", "text")}


@pytest.fixture
def learning(three_languages, teacher_features, monkeypatch):
    """``learning(method, **options)``: see :class:`Learning`."""
    monkeypatch.setattr(Corpus, "features", lambda self, split, kind: teacher_features[kind])
    monkeypatch.setattr(MlvlTask, "build_model", new_model)
    return lambda *method, **options: Learning(three_languages, *method, **options)
