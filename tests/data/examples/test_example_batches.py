"""Examples as batches: texts, images, labels and answers; what is drawn, and what is not mirrored."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from published_examples import GQA, NLVR2, XVNLI, write_lines, write_published, write_whole

from mlvl_fairseq.data.examples import ExampleImageOptions, ExampleImages, read_examples
from mlvl_fairseq.data.examples.dataset import ExamplesDataset, Shown, readable
from mlvl_fairseq.data.examples.targets import AnswerTargets, LabelTargets
from mlvl_fairseq.data.examples.texts import ExampleTextOptions, ExampleTexts
from mlvl_fairseq.data.images.augmentation import Augmentation
from mlvl_fairseq.data.images.policy import BadImagePolicy
from mlvl_fairseq.data.images.transforms import ImageTransform
from mlvl_fairseq.errors import DataError, UserError


class Letters:
    """A tokenizer whose letters are pieces."""

    bos, pad, eos = 0, 1, 2

    def encode_batch(self, texts):
        return [[ord(letter) for letter in text] for text in texts]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    return folder, write_published(folder)


@pytest.fixture
def batches(published):
    """``batches(name, targets, **options of a data set)``."""
    folder, files = published
    images = ExampleImages(ExampleImageOptions(image_root=str(folder / "images")))

    def made(name, targets, text=None, augmentation=None, may_mirror=lambda _: True, training=True, **options):
        texts = ExampleTexts(ExampleTextOptions(**(text or {})), Letters(), training)
        shown = Shown(images, ImageTransform("lilt", 4), augmentation, may_mirror)
        return ExamplesDataset(read_examples(files[name], images).examples, texts, shown, targets, 1, **options)

    return made


CLASSES = ["contradiction", "entailment", "neutral"]


def test_a_batch_of_hypotheses(batches):
    data = batches("xvnli", LabelTargets(CLASSES), {"cleaning": "cclm", "max_words": 2, "max_length": 9})
    batch = data.collater([data[2], data[0]])
    text = [[0, *map(ord, "it runs"), 2], [0, *map(ord, "two ani"), 2]]
    assert batch["net_input"]["tokens"].tolist() == text and batch["net_input"]["head"] == "labels"
    assert batch["net_input"]["eos_positions"].tolist() == [8, 8]
    assert isinstance(batch["net_input"]["lengths"], np.ndarray) and batch["net_input"]["lengths"].tolist() == [9, 9]
    assert batch["labels"].tolist() == [2, 1] and batch["id"].tolist() == [2, 0] and batch["nsentences"] == 2
    assert batch["net_input"]["images"].shape == (2, 3, 4, 4)
    assert data.collater([]) == {}


def test_images_of_a_text_stand_one_after_the_other(batches):
    data = batches("nlvr2", LabelTargets(["False", "True"]))
    batch = data.collater([data[1], data[0]])
    transform, folder = ImageTransform("lilt", 4), data.shown.images
    expected = [transform(folder.open(f"nlvr2/{name}")) for row in (NLVR2[1], NLVR2[0]) for name in row["images"]]
    torch.testing.assert_close(batch["net_input"]["images"], torch.stack(expected))
    assert batch["labels"].tolist() == [0, 1] and not torch.equal(expected[0], expected[1])


ANSWERS = ["up", "right", "pipe"]


def test_answers_to_be_generated(batches):
    """Their scores weigh them; as published each counts the same."""
    data = batches("gqa", AnswerTargets(ANSWERS, Letters(), generated=True, equal=False))
    batch = data.collater([data[1], data[0]])
    given = batch["net_input"]
    assert given["head"] == "answers" and given["answer_of"].tolist() == [0, 0, 1]
    pieces = [[0, *map(ord, answer), 2, *[1] * (5 - len(answer))] for answer in ("left", "right", "pipe")]
    assert given["answers"].tolist() == pieces
    told = [[row, place] for row, length in enumerate((5, 6, 5)) for place in range(length)]
    assert given["answer_places"].tolist() == [6 * row + place for row, place in told]
    torch.testing.assert_close(batch["answer_weights"], torch.tensor([0.25, 0.75, 1.0]))
    assert batch["gold"].tolist() == [1, 2] and batch["answer_of"].tolist() == [0, 0, 1]
    data.targets = AnswerTargets(ANSWERS, Letters(), generated=True, equal=True)
    assert data.collater([data[1], data[0]])["answer_weights"].tolist() == [0.5, 0.5, 1.0]


def test_answers_as_classes_are_those_of_the_list(batches):
    data = batches("gqa", AnswerTargets(ANSWERS[1:2], Letters(), generated=False, equal=False))
    batch = data.collater([data[1], data[0]])
    assert batch["net_input"]["head"] == "labels" and batch["answer_ids"].tolist() == [0]
    assert batch["answer_of"].tolist() == [0] and batch["answer_weights"].tolist() == [1.0]
    assert batch["gold"].tolist() == [0, -1]  # "pipe" is no answer: whatever is chosen is wrong
    assert batch["answer_ids"].dtype == batch["answer_of"].dtype == torch.long


def test_validation_cuts_texts_otherwise():
    options = {"max_words": 2, "eval_max_words": 3, "max_length": 4, "eval_max_length": 6}
    texts = [ExampleTexts(ExampleTextOptions(**options), Letters(), training) for training in (True, False)]
    assert [text.cleaned("a b c d") for text in texts] == ["a b", "a b c"]
    assert [len(text.ids("a b c d")) for text in texts] == [4, 6]
    assert [text.ids("abcdefgh")[-2:] for text in texts] == [[ord("b"), 2], [ord("d"), 2]]


def test_texts_of_which_cleaning_leaves_nothing():
    texts = ExampleTexts(ExampleTextOptions(cleaning="cclm_question"), Letters(), True)
    kept, empty = texts.without_empty([SimpleNamespace(text=text) for text in ("Is it?", "?!")])
    assert [example.text for example in kept] == ["Is it?"] and empty == 1


def test_what_is_drawn_follows_seed_epoch_and_example(batches):
    def pixels(seed, epoch):
        data = batches("xvnli", LabelTargets(CLASSES), augmentation=Augmentation((0.2, 0.5)), seed=seed)
        data.set_epoch(epoch)
        return torch.stack([data[row]["images"][0] for row in range(3)])

    assert torch.equal(pixels(1, 1), pixels(1, 1))
    assert not torch.equal(pixels(1, 1), pixels(1, 2)) and not torch.equal(pixels(1, 1), pixels(2, 1))


def test_pictures_are_not_mirrored_where_that_is_wrong(batches):
    """Always, but for examples that may not be."""
    flips = []

    class Noted(Augmentation):
        def __call__(self, image, size, generator):
            flips.append(self.flip)
            return image.resize((size, size))

    def may_mirror(example):
        return "left" not in example.text

    data = batches("xvnli", LabelTargets(CLASSES), augmentation=Noted((1, 1), 1.0), may_mirror=may_mirror)
    for row in range(3):
        data[row]
    assert flips == [1.0, 1.0, 0.0]


def test_order_of_an_epoch(batches):
    data = batches("xvnli", LabelTargets(CLASSES), shuffle=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "permutation", lambda count: np.arange(count)[::-1])
        assert data.ordered_indices().tolist() == [2, 1, 0]
    data = batches("xvnli", LabelTargets(CLASSES))
    assert data.ordered_indices().tolist() == [0, 1, 2]
    assert data.num_tokens_vec(np.array([2, 0])).tolist() == [1, 1], "all items take alike much work"


def test_pictures_that_cannot_be_read(published, tmp_path):
    folder, files = published
    for name in ("36979", "1015118661"):
        (tmp_path / f"{name}.jpg").write_bytes((folder / f"images/flickr30k-images/{name}.jpg").read_bytes())
    (tmp_path / "36979.jpg").write_bytes(b"no picture")
    images = ExampleImages(ExampleImageOptions(image_root=str(tmp_path)))
    examples = read_examples(files["xvnli"], images).examples
    shown = Shown(images, ImageTransform("lilt", 4))
    assert readable(examples, shown, BadImagePolicy("error"), "x") == examples
    assert readable(examples, shown, BadImagePolicy("skip"), "x") == examples[2:]
    with pytest.raises(DataError, match="bad image 1; --max-bad-images allows 0"):
        readable(examples, shown, BadImagePolicy("skip", 0), "x")
    with pytest.raises(UserError, match="x: none of the 1 images can be used"):
        readable(examples[:2], shown, BadImagePolicy("skip"), "x")
    data = ExamplesDataset(examples, ExampleTexts(ExampleTextOptions(), Letters(), True), shown, None, 1)
    with pytest.raises(DataError, match="36979.jpg: .* \\(--bad-image skip looks at all images first"):
        data[0]


def test_given_features_are_not_transformed(published, tmp_path):
    (tmp_path / "f.txt").write_text("flickr30k-images/36979.jpg\nflickr30k-images/1015118661.jpg\n")
    grids = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    np.save(tmp_path / "f.npy", grids)
    images = ExampleImages(ExampleImageOptions(image_features=str(tmp_path / "f.npy")))
    examples = read_examples(published[1]["xvnli"], images).examples
    texts = ExampleTexts(ExampleTextOptions(), Letters(), True)
    data = ExamplesDataset(examples, texts, Shown(images, None), LabelTargets(CLASSES), 1)
    batch = data.collater([data[0], data[2]])
    np.testing.assert_array_equal(batch["net_input"]["images"].numpy(), grids)


def test_small_files_with_the_fields_of_the_others(tmp_path):
    """What is drawn from is not told by where it lies: lists and lines of one content are formats of their own."""
    found = read_examples(write_lines(tmp_path / "a.json", XVNLI[:1])), read_examples(write_whole(tmp_path / "b", GQA))
    assert [(one.format, one.examples[0].images) for one in found] == [
        ("xvnli", ("flickr30k-images/36979.jpg",)),
        ("gqa", ("gqa/2375429.jpg",)),
    ]
