"""Captions of a memory are those of the corpus's text, cut with the vocabulary of now."""

import itertools
import json

import numpy as np
import pytest
import torch

from mlvl_fairseq.continual.memory.captions import MemoryCaptions
from mlvl_fairseq.data.captions import read_captions
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.corpus.build import build_corpus
from mlvl_fairseq.data.corpus.prepare import prepare_vocabularies
from mlvl_fairseq.data.corpus.vocabularies import GrownVocabulary, language_vocabulary
from mlvl_fairseq.data.text import ClipTokenizer
from mlvl_fairseq.picture_world import WorldSettings, get_language, plan_world
from mlvl_fairseq.tasks.cll_retrieval import CllRetrievalConfig, CllRetrievalTask

ORDER = ["en", "zh", "qab", "de"]  # an ideographic script and a constructed language among those learned
FEATURES = {"image": torch.randn(40, 2).numpy(), "text": torch.randn(200, 3).numpy()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory")
    pictures = plan_world(WorldSettings(train=20, valid=1, test=1))["train"]
    for lang in ORDER:
        say = get_language(lang).caption
        rows = [{"image": picture.name, "caption": say(plan)} for picture in pictures for plan in picture.plans]
        (folder / f"{lang}.json").write_text(json.dumps(rows), encoding="utf-8")
    tables = {"train": {lang: read_captions(folder / f"{lang}.json") for lang in ORDER}}
    corpus = build_corpus(folder / "corpus", tables, bpe_size=400)
    for lang in ORDER:
        language_vocabulary(corpus, lang, train=True)
    prepare_vocabularies(corpus, ORDER)
    return corpus


@pytest.fixture(scope="module")
def task(corpus):
    """The task while German is learned after the others."""
    cfg = CllRetrievalConfig(data=str(corpus.folder), lang="de", learned="en,zh,qab", seed=1)
    return CllRetrievalTask(cfg, corpus, ORDER[:-1], ORDER[-1:])


@pytest.fixture
def memory(task, monkeypatch):
    monkeypatch.setattr(Corpus, "features", lambda self, split, kind: FEATURES[kind])
    return lambda items: MemoryCaptions(task, np.array(items))


def test_ids_are_those_of_the_text_with_the_vocabulary_of_now(corpus, task, memory):
    everything = list(itertools.product(range(4), range(len(corpus.captions("train", "en")))))
    items = [everything[i] for i in np.random.default_rng(1).permutation(len(everything))]
    captions = memory(items)
    now, then = (
        GrownVocabulary(corpus, ORDER).tokenizer,
        [GrownVocabulary(corpus, ORDER[: place + 1]).tokenizer for place in range(4)],
    )
    batch = captions.batch(range(len(items)))
    tokens, ends = batch["net_input"]["tokens"].tolist(), batch["net_input"]["eos_positions"].tolist()
    changed = 0
    for (place, caption), ids, end in zip(items, tokens, ends):
        text = corpus.captions("train", ORDER[place])[caption]
        assert ids[: end + 1] == [now.bos, *now.encode(text), now.eos], text
        changed += now.encode(text) != then[place].encode(text)
    assert changed  # a later language's merges do cut some captions in another way: that is why they are cut anew


def test_features_are_those_of_the_caption_s_image_and_english_sentence(corpus, memory):
    items = [(1, 3), (0, 5), (2, 0)]
    batch = memory(items).batch([2, 0])
    rows = [corpus.rows("train", ORDER[place])[caption] for place, caption in ((2, 0), (1, 3))]
    assert batch["image_ids"].tolist() == [int(image) for image, _ in rows]
    assert torch.equal(batch["image_features"], torch.tensor(FEATURES["image"][[image for image, _ in rows]]))
    assert torch.equal(batch["text_features"], torch.tensor(FEATURES["text"][[english for _, english in rows]]))


def test_captions_are_cut_to_the_task_s_length(corpus, task, memory, monkeypatch):
    monkeypatch.setattr(task.cfg, "max_length", 5)
    now = GrownVocabulary(corpus, ORDER).tokenizer
    batch = memory([(0, 1), (3, 2)]).batch([0, 1])
    tokens = batch["net_input"]["tokens"].tolist()
    for (place, caption), ids in zip([(0, 1), (3, 2)], tokens):
        assert ids == [now.bos, *now.encode(corpus.captions("train", ORDER[place])[caption])[:3], now.eos]


def test_languages_of_tokens(corpus, task, memory):
    items = [(0, 1), (0, 2), (1, 7), (2, 7)]
    counts = memory(items).languages_of_tokens()
    now = GrownVocabulary(corpus, ORDER).tokenizer
    words = {
        place: {
            i for p, caption in items if p == place for i in now.encode(corpus.captions("train", ORDER[p])[caption])
        }
        for place in range(3)
    }
    expected = [sum(token in ids for ids in words.values()) for token in range(len(now))]
    assert counts.tolist() == expected and max(expected) >= 1 and len(counts) == len(task.dictionary)


def test_the_end_of_a_caption_is_no_token_of_a_language(corpus, memory):
    now = GrownVocabulary(corpus, ORDER).tokenizer
    counts = memory([(0, 1), (1, 1)]).languages_of_tokens()
    assert counts[now.eos] == counts[now.bos] == 0


def test_with_frozen_segmentation_captions_stay_as_they_were_learned(corpus, monkeypatch):
    """In replay, and in the model's tokenizer where the language is known; of one that is not, by all merges."""
    monkeypatch.setattr(Corpus, "features", lambda self, split, kind: FEATURES[kind])
    cfg = CllRetrievalConfig(data=str(corpus.folder), lang="de", learned="en,zh,qab", seed=1, segmentation="frozen")
    task = CllRetrievalTask(cfg, corpus, ORDER[:-1], ORDER[-1:])
    items = list(itertools.product(range(4), range(len(corpus.captions("train", "en")))))
    batch = MemoryCaptions(task, np.array(items)).batch(range(len(items)))
    then = [GrownVocabulary(corpus, ORDER[: place + 1]).tokenizer for place in range(4)]
    frozen = ClipTokenizer(then[3].vocabulary, task.state.segmentation)
    changed = 0
    for (place, caption), ids, end in zip(items, batch["net_input"]["tokens"], batch["net_input"]["eos_positions"]):
        text = corpus.captions("train", ORDER[place])[caption]
        expected = [then[place].bos, *then[place].encode(text), then[place].eos]
        assert ids[: end + 1].tolist() == expected == frozen.of_language(ORDER[place]).tokenize([text], 1000)[0]
        assert frozen.of_language("fr").encode(text) == then[3].encode(text) == frozen.encode(text)
        changed += expected[1:-1] != then[3].encode(text)
    assert changed and frozen.name == "clip-bpe-frozen" != then[3].name
