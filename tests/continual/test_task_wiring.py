"""What the task makes of its options and of the corpus: token counts, scales, current tokens, new rows."""

from collections import Counter

import numpy as np
import pytest
import torch
from sequence_of_three import CAPTIONS, ORDER, cut, tokenizer_after

from mlvl_fairseq.tasks.cll_retrieval import CllRetrievalConfig, CllRetrievalTask

CLIP_SIZE, BOS, EOS = 49408, 49406, 49407
TEIR = {"regularize": "grad_decay", "grad_scale_type": "current_reciprocal"}


def tokens_of(corpus, place, captions, now):
    """How often each token occurs in captions of a language, by the tokenizer of now."""
    return Counter(token for caption in captions for token in cut(corpus, place, caption, now)[1:-1])


def use_of(corpus, place):
    """float [V]: ``f`` while a language is learned (Yang et al. 2024, 3.4), counted in the text."""
    frequencies = torch.ones(len(tokenizer_after(corpus.folder, place)))
    frequencies[:CLIP_SIZE] += 1
    for earlier in range(place):
        frequencies[list(tokens_of(corpus, earlier, range(CAPTIONS[earlier]), earlier))] += 1
    return frequencies


def test_counts_are_of_the_captions_without_their_beginning_and_end(learning, three_languages):
    task = learning().begin(0)
    counts = task.count_current_tokens()
    expected = tokens_of(three_languages, 0, range(CAPTIONS[0]), 0)
    assert counts.shape == (1, len(task.dictionary)) and {BOS, EOS} == {task.dictionary.bos(), task.dictionary.eos()}
    assert {token: int(counts[0, token]) for token in counts[0].nonzero()[0]} == expected
    assert counts[0, BOS] == counts[0, EOS] == 0 < max(expected.values())


def test_joint_training_counts_each_language_apart(learning, three_languages, monkeypatch):
    learning()  # the corpus's features and the network are those of a few numbers
    cfg = CllRetrievalConfig(data=str(three_languages.folder), lang="de,ru", learned="en", seed=3)
    task = CllRetrievalTask(cfg, three_languages, ["en"], ["de", "ru"])
    now = tokenizer_after(three_languages.folder, 2)
    folders = {lang: task.vocabulary.binarized(lang) for lang in ("de", "ru")}
    from mlvl_fairseq.data.corpus.binarize import binarize

    for lang in folders:
        binarize(task.vocabulary, lang)
    counts = task.count_current_tokens()
    for row, place in enumerate((1, 2)):
        expected = tokens_of(three_languages, place, range(CAPTIONS[place]), 2)
        assert {token: int(counts[row, token]) for token in counts[row].nonzero()[0]} == expected
    assert len(now) == counts.shape[1] and counts[:, [BOS, EOS]].sum() == 0


def test_gradient_and_decay_have_each_their_own_scale(learning, three_languages):
    run = learning(**TEIR, weight_decay_scale_type="fixed_7", update_all_rows=True).learn(1)
    task = run.begin(1)
    current, frequencies = list(tokens_of(three_languages, 1, range(CAPTIONS[1]), 1)), use_of(three_languages, 1)
    gradient, decay = torch.zeros(len(frequencies)), torch.zeros(len(frequencies))
    gradient[current] = 1 / frequencies[current]
    decay[current] = torch.where(frequencies[current] > 1, 1 / 7, 1.0)
    torch.testing.assert_close(task.scales.gradient, gradient)
    torch.testing.assert_close(task.scales.decay, decay)
    assert task.scales.update is None and len(set(gradient.tolist())) == 4  # 0, 1, 1/2 and 1/3: new, CLIP's, learned


@pytest.mark.parametrize(
    "acts_on, where, scaled",
    [
        ("none", "gradient", set()),
        ("grad", "gradient", {"gradient"}),
        ("grad", "update", {"update"}),
        ("decay", "update", {"decay"}),
        ("grad_decay", "update", {"update", "decay"}),
    ],
)
def test_what_is_regularised_is_what_was_asked_for(learning, acts_on, where, scaled):
    task = learning(regularize=acts_on, row_scale_on=where, weight_decay_scale_type="unique").begin(0)
    assert {name for name in ("gradient", "update", "decay") if getattr(task.scales, name) is not None} == scaled


def test_scales_are_those_of_the_rows_that_train(learning, three_languages):
    whole, compact = (learning(**TEIR, update_all_rows=all_rows).begin(0) for all_rows in (True, False))
    trained = sorted([*tokens_of(three_languages, 0, range(CAPTIONS[0]), 0), BOS, EOS])
    assert compact.model.token_embedding.rows.tolist() == trained and whole.model.token_embedding.rows is None
    for name in ("gradient", "decay"):
        assert torch.equal(getattr(compact.scales, name), getattr(whole.scales, name)[trained])
    assert whole.scales.gradient[[BOS, EOS]].tolist() == [0, 0]
    assert compact.scales.decay_idle is not None and whole.scales.decay_idle is None


@pytest.mark.parametrize("counts_as_use", [False, True])
def test_replayed_tokens_are_current_and_only_on_request_used(learning, three_languages, counts_as_use):
    """Rows of replayed captions move, by ``1 / f``; in the published code ``f`` grows by each replayed language."""
    run = learning("er", memory_size=10, memory_counts_as_use=counts_as_use, **TEIR).learn(2)
    task = run.begin(2)
    replayed = [tokens_of(three_languages, place, [c for p, c in run.items() if p == place], 2) for place in (0, 1)]
    own = tokens_of(three_languages, 2, range(CAPTIONS[2]), 2)
    assert all(replayed) and set(replayed[0]) - set(own)
    frequencies = use_of(three_languages, 2)
    if counts_as_use:  # what was replayed while German was learned
        before = learning("er", memory_size=10, memory_counts_as_use=True, **TEIR).learn(1)
        before.begin(1)
        frequencies[list(tokens_of(three_languages, 0, [c for _, c in before.items()], 1))] += 1
    expected = torch.zeros(len(frequencies))
    current = list(set(own).union(*replayed))
    expected[current] = 1 / frequencies[current]
    torch.testing.assert_close(task.scales.gradient, expected)
    learned = torch.zeros(len(frequencies), dtype=torch.int32)
    for tokens in (own, *(replayed if counts_as_use else [])):
        learned[list(tokens)] += 1
    assert torch.equal(task.model.language_state.current_tokens, learned)


def rows_drawn(seed, position, number, width):
    """As documented: N(0, 0.02^2) from a stream of the seed and the language's place."""
    stream = int(np.random.SeedSequence([seed, position]).generate_state(1)[0])
    return 0.02 * torch.randn(number, width, generator=torch.Generator().manual_seed(stream))


def test_new_rows_are_drawn_from_a_stream_of_their_language_s_place(learning):
    run, sizes, drawn = learning(), [], []
    for place in range(3):
        task = run.begin(place)
        sizes.append(len(task.dictionary))
        if place:
            drawn.append(run.handed_over["text.token_embedding.weight"][sizes[-2] :])
            expected = rows_drawn(3, place, sizes[-1] - sizes[-2], 8)
            torch.testing.assert_close(drawn[-1], expected, rtol=0, atol=1e-7)
        run.train()
    assert min(map(len, drawn)) > 10 and not torch.equal(drawn[0][:10], drawn[1][:10])


def test_the_first_language_s_new_rows_follow_the_distribution_of_all_with_teir(learning):
    growth = learning("cll_clip_with_teir").begin(0).growth
    weight = torch.tensor([[1.0, 3.0], [5.0, 7.0]])
    stream = int(np.random.SeedSequence([3, 0]).generate_state(1)[0])
    noise = torch.randn(3, 2, generator=torch.Generator().manual_seed(stream))
    torch.testing.assert_close(growth.grow(weight, 5)[2:], 4 + noise * (20 / 3) ** 0.5)
    assert torch.equal(growth.grow(weight, 5)[:2], weight)


def test_every_purpose_has_a_stream_of_its_own(learning):
    run = learning("er", memory_size=4)
    seeds = []
    for place in range(2):
        task = run.begin(place)
        seeds += [task.growth.seed, task.plugins["replay"].seed, task.plugins["replay"].selection.seed]
        run.train()
    streams = [np.random.SeedSequence([3, purpose]).generate_state(1)[0] for purpose in (0, 20_000, 10_000, 1)]
    assert seeds == [*streams[:3], streams[3], *streams[1:3]]


def test_captions_that_are_looked_back_at_are_of_the_language_before(learning, three_languages):
    run = learning().learn(2)
    task = run.begin(2)
    batches = list(task.previous_batches(task.model, 12, "looking back"))
    assert [batch["nsentences"] for batch in batches] == [12, 12, 6]
    assert all(batch["net_input"]["lang"] == ORDER[1] for batch in batches)
    for caption, (ids, end) in enumerate(rows_of(batches)):
        assert ids[: end + 1] == cut(three_languages, 1, caption)
    chosen = list(task.previous_batches(task.model, 2, "looking back", rows=[5, 0, 7]))
    assert [ids[: end + 1] for ids, end in rows_of(chosen)] == [cut(three_languages, 1, c) for c in (5, 0, 7)]


def rows_of(batches):
    for batch in batches:
        yield from zip(batch["net_input"]["tokens"].tolist(), batch["net_input"]["eos_positions"].tolist())
