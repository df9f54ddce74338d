"""Three languages learned one after another by the task itself, with a network of a few numbers, without fairseq-train.

What the tests expect is computed here from the corpus's text: captions are cut with the tokenizer of their language's
place, one by one, and go through the network alone.
"""

from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import torch

from mlvl_fairseq.continual.methods import method_options
from mlvl_fairseq.criterions.cll_clip import CllClipCriterion, CllClipCriterionConfig
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.corpus.vocabularies import GrownVocabulary
from mlvl_fairseq.models.clip import ClipModel
from mlvl_fairseq.modules.towers.clip_text import CLIPTextTower
from mlvl_fairseq.optim.row_adamw import FairseqRowAdamW, RowAdamWConfig
from mlvl_fairseq.tasks.cll_retrieval import CllRetrievalConfig, CllRetrievalTask

ORDER = ["en", "de", "ru"]
EMBED_DIM, BATCH = 4, 8
CAPTIONS = [32, 30, 28]  # of each language, two a picture


def new_model(self, cfg, from_checkpoint=False):
    """In the place of `MlvlTask.build_model`."""
    torch.manual_seed(5)
    model = ClipModel(CLIPTextTower(len(self.dictionary), 8, layers=1, heads=2, embed_dim=EMBED_DIM), None)
    model.freeze(SimpleNamespace(freeze=None, trainable=None, init_from=None), self.default_freeze)
    return model


class Learning:
    """Learns the corpus's languages with a method; stops where a test wants to look.

    Attributes:
        task: of the language that is learned now. handed_over: the model's state when its language begins.
    """

    def __init__(self, corpus, method="cll_clip", **options):
        self.corpus, self.options = corpus, {**method_options(method), **options}
        self.state = self.task = None

    def begin(self, place):
        cfg = CllRetrievalConfig(
            data=str(self.corpus.folder), lang=ORDER[place], learned=",".join(ORDER[:place]), seed=3, **self.options
        )
        self.task = CllRetrievalTask(cfg, self.corpus, ORDER[:place], [ORDER[place]])
        self.task.build_model(SimpleNamespace(embed_dim=EMBED_DIM))
        self.task.criterion = CllClipCriterion(CllClipCriterionConfig(), self.task)
        self.model = self.task.model
        if self.state is not None:
            self.model.load_state_dict(self.state)
        self.handed_over = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.task.begin_epoch(1, self.model)
        return self.task

    def batches(self):
        """The current language's captions in stored order."""
        dataset = self.task.caption_dataset("train", self.task.current)
        for start in range(0, len(dataset) - BATCH + 1, BATCH):
            yield dataset.collater([dataset[row] for row in range(start, start + BATCH)])

    def train(self, before_step=lambda sample: None):
        """One epoch; `before_step` sees each batch when its update is about to be computed."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = FairseqRowAdamW(RowAdamWConfig(lr=[0.01]), parameters)
        for number, sample in enumerate(self.batches()):
            before_step(sample)
            optimizer.zero_grad()
            _, rows, _ = self.task.train_step(sample, self.model, self.task.criterion, optimizer, number)
            optimizer.multiply_grads(1 / rows)
            self.task.optimizer_step(optimizer, self.model, number)
        self.state = {name: value.clone() for name, value in self.model.state_dict().items()}

    def learn(self, places):
        """These languages from begin to end."""
        for place in range(places):
            self.begin(place)
            self.train()
        return self

    @property
    def memory(self):
        return self.task.plugins["replay"]

    def items(self):
        """What is replayed now: (place of the language, caption)."""
        return [tuple(item) for item in self.memory.items.tolist()]


@lru_cache(maxsize=None)
def tokenizer_after(folder, place):
    return GrownVocabulary(Corpus(folder), ORDER[: place + 1]).tokenizer


def cut(corpus, place, caption, now=None):
    """Ids of a caption with BOS and EOS, cut with the vocabulary after the language at `now` (default: its own)."""
    tokenizer = tokenizer_after(corpus.folder, place if now is None else now)
    return [tokenizer.bos, *tokenizer.encode(corpus.captions("train", ORDER[place])[caption]), tokenizer.eos]


def feature(model, ids):
    """float [D]: of one caption, alone."""
    positions = torch.tensor([len(ids) - 1])
    return model(tokens=torch.tensor([ids]), eos_positions=positions)["text"][0]


def features_of_language(corpus, model, place):
    """float [captions, D], cut as when the language was learned."""
    captions = range(len(corpus.captions("train", ORDER[place])))
    return torch.stack([feature(model, cut(corpus, place, caption)) for caption in captions])


def labels_of(corpus, arrays, place):
    """The teacher's features of the captions of a language: English [captions, D], image [captions, D], image ids."""
    rows = corpus.rows("train", ORDER[place])
    return (torch.tensor(arrays[kind][rows[:, column]]) for kind, column in (("text", 1), ("image", 0))), rows[:, 0]


def herd(features, number):
    """iCaRL, algorithm 4, as it is written: rows whose mean follows the mean of all."""
    mean, chosen = features.mean(axis=0), []
    for _ in range(number):
        free = [row for row in range(len(features)) if row not in chosen]
        chosen.append(min(free, key=lambda row: np.linalg.norm(mean - features[[*chosen, row]].mean(axis=0))))
    return chosen
