"""Training on pictures that are changed at random: others in every epoch and for every caption, the same after a
restart."""

import pytest
import torch

from mlvl_fairseq.checkpoints.comparison import differing, largest_difference
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.images.augmentation import Augmentation
from mlvl_fairseq.data.images.corpus_images import CorpusImages, DrawnCorpusImages
from mlvl_fairseq.data.images.transforms import ImageTransform


@pytest.fixture
def options(corpus_without_teacher, teacher_options):
    return [corpus_without_teacher, *teacher_options, "--max-epoch", 2, "--disable-validation"]


def test_a_resumed_training_sees_the_same_pictures(options, succeed, tmp_path):
    for name, more in (("whole", []), ("plain", None), ("parts", ["--max-update", 5]), ("parts", [])):
        changed = [] if more is None else ["--augment", "--save-interval-updates", 5]
        succeed("fairseq-train", *options, *changed, *(more or []), "--save-dir", tmp_path / name)
    last = {name: tmp_path / name / "checkpoint_last.pt" for name in ("whole", "plain", "parts")}
    assert differing(last["whole"], last["parts"]) == []
    assert largest_difference(last["whole"], last["plain"]) > 1e-4


def test_pictures_differ_by_epoch_and_caption(corpus_without_teacher):
    where = Corpus(corpus_without_teacher), "train", ImageTransform("lilt", 32), ""
    images, whole = DrawnCorpusImages(*where, Augmentation(), seed=1), CorpusImages(*where)
    first = images.of_caption(3, 7)
    assert torch.equal(images.of_caption(3, 7), first)
    others = [images.of_caption(3, 8), images.of_caption(2, 7), images[3], whole[3], whole.of_caption(3, 7)]
    images.set_epoch(2)
    others.append(images.of_caption(3, 7))
    others.append(DrawnCorpusImages(*where, Augmentation(), seed=2).of_caption(3, 7))
    assert not any(torch.equal(first, other) for other in others) and torch.equal(whole[3], whole.of_caption(3, 7))


def test_a_wrong_option_is_one_line(options, run, tmp_path):
    ended = run("fairseq-train", *options, "--augment", "--flip", 2, "--save-dir", tmp_path / "out")
    assert ended.status == 2 and "--flip 2 is no probability" in ended.err
    assert not (tmp_path / "out").exists()
