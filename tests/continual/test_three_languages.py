"""Three languages with memory: what each method remembers is of the right language, its captions, cuts and weights."""

import numpy as np
import pytest
import torch
from sequence_of_three import (
    BATCH,
    CAPTIONS,
    EMBED_DIM,
    ORDER,
    cut,
    feature,
    features_of_language,
    herd,
    labels_of,
)

WEIGHT = "text.token_embedding.weight"


def batch_losses(features, english, images, ids):
    """The base loss as section 3.3 of Yang et al. 2024 has it, at the temperature that every language starts with."""
    mse = ((features - english) ** 2).mean()
    text, image = (x / x.norm(dim=1, keepdim=True) for x in (features, images))
    logits = text @ image.T / 0.07
    same = (ids[:, None] == ids[None, :]).float()
    targets = same / same.sum(1, keepdim=True)
    contrast = -sum((targets * torch.log_softmax(part, 1)).sum(1).mean() for part in (logits, logits.T)) / 2
    return mse + 0.01 * contrast


def gradients(learning, arrays, place, size, loss):
    """Gradient of `loss` of each batch of `size` captions of a language, in their order, by the embedding."""
    corpus, model = learning.corpus, learning.model.eval()
    (english, images), image_ids = labels_of(corpus, arrays, place)
    captions = len(image_ids)
    for start in range(0, captions, size):
        rows = range(start, min(start + size, captions))
        features = torch.stack([feature(model, cut(corpus, place, row)) for row in rows])
        value = loss(features, english[rows], images[rows], torch.tensor(image_ids[rows]))
        yield torch.autograd.grad(value, model.text.token_embedding.weight)[0]


def squared_norm(features, *_):
    return (features**2).sum(1).mean()


@pytest.mark.parametrize(
    "method, option, loss, power",
    [("oewc", "ewc_batch_size", batch_losses, 2), ("mas", "mas_batch_size", squared_norm, 1)],
)
def test_importance_is_of_the_language_that_has_just_ended(learning, teacher_features, method, option, loss, power):
    run = learning(method, **{option: 12})  # the last batch is a short one
    total = 0
    for place in range(3):
        task = run.begin(place)
        found = task.plugins[method].get("importance", WEIGHT)
        if place:
            parts = [part.abs() ** power for part in gradients(run, teacher_features, place - 1, 12, loss)]
            total = torch.nn.functional.pad(total, (0, 0, 0, len(parts[0]) - len(total))) if place > 1 else 0
            total = total + sum(parts) / len(parts)
            torch.testing.assert_close(found, total, rtol=1e-4, atol=1e-5 * float(total.max()))
            assert torch.equal(task.plugins[method].get("anchor", WEIGHT), run.handed_over[WEIGHT])
        else:
            assert found is None
        run.train()


def test_herding_follows_the_mean_of_the_language_that_has_just_ended(learning, three_languages):
    run, expected = learning("er_herding", memory_size=16), {}
    for place in range(3):
        run.begin(place)
        if place:
            features = features_of_language(three_languages, run.model.eval(), place - 1).detach().double().numpy()
            features /= np.linalg.norm(features, axis=1, keepdims=True)
            expected[place - 1] = herd(features, 16)  # all captions are candidates
            share = 16 // place
            wanted = [(lang, caption) for lang, order in expected.items() for caption in order[:share]]
            assert sorted(run.items()) == sorted(wanted)
        run.train()


@pytest.mark.parametrize("selection", ["balanced", "herding"])
def test_der_s_labels_at_a_language_s_end_are_the_features_of_then(learning, three_languages, selection):
    run, then = learning("der", memory_size=8, memory_selection=selection), []
    for place in range(3):
        run.begin(place)
        if place:
            with torch.no_grad():
                then.append(features_of_language(three_languages, run.model.eval(), place - 1))
            check_labels(run, lambda lang, caption: then[lang][caption])
            assert {lang for lang, _ in run.items()} == set(range(place))
        run.train()


def check_labels(run, expected):
    """The labels of what is replayed, in the memory and in a batch drawn from it."""
    labels = torch.stack([expected(*item) for item in run.items()])
    torch.testing.assert_close(run.memory.labels, labels, rtol=1e-4, atol=1e-6)
    sample = next(run.batches())
    drawn = run.task.plugins["der"].extend_batch(sample)["memory"]["replay"]
    distances = torch.cdist(drawn["student_features"], labels)
    tokens, ends = drawn["net_input"]["tokens"].tolist(), drawn["net_input"]["eos_positions"].tolist()
    for row, (ids, end) in enumerate(zip(tokens, ends)):
        place, caption = run.items()[int(distances[row].argmin())]
        assert distances[row].min() < 1e-5
        assert ids[: end + 1] == cut(run.corpus, place, caption, now=run.task.position)


def test_der_s_labels_in_a_reservoir_are_the_features_before_the_update(learning, three_languages):
    run, then = learning("der", memory_size=12), {}

    def note(sample):
        for caption in sample["id"].tolist():
            ids = cut(three_languages, run.task.position, caption)
            with torch.no_grad():
                then[run.task.position, caption] = feature(run.model, ids)

    languages = set()
    for place in range(3):
        run.begin(place)
        if place:
            check_labels(run, lambda *item: then[item])
            languages |= {lang for lang, _ in run.items()}
            assert len(run.items()) == 12
        run.train(note)
    assert languages == {0, 1} and run.memory.next_labels.shape == (12, EMBED_DIM)
    assert int(run.memory.seen) == sum(captions // BATCH * BATCH for captions in CAPTIONS)


def test_er_s_labels_are_the_teacher_s_english_features(learning, three_languages, teacher_features):
    run = learning("er", memory_size=40).learn(2)
    run.begin(2)
    sample = next(run.batches())
    drawn = run.task.plugins["er"].extend_batch(sample)["memory"]["replay"]
    net_input = drawn["net_input"]
    known = {}
    for place, caption in run.items():
        image, english = three_languages.rows("train", ORDER[place])[caption].tolist()
        known[(*cut(three_languages, place, caption, now=2), image)] = english
    for row, (ids, end) in enumerate(zip(net_input["tokens"].tolist(), net_input["eos_positions"].tolist())):
        image = int(drawn["image_ids"][row])
        english = known[(*ids[: end + 1], image)]
        assert torch.equal(drawn["image_features"][row], torch.tensor(teacher_features["image"][image]))
        assert torch.equal(drawn["text_features"][row], torch.tensor(teacher_features["text"][english]))
