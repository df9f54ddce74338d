"""The order of batches: a function of seed and epoch, all ranks on one stream at a time."""

import numpy as np
import pytest
from stream_parts import GOLDEN

from mlvl_fairseq.data.streams.order import (
    StreamOrder,
    TrainingOrder,
    ValidationOrder,
    epoch_stream_record,
    iterations_of,
    places,
)
from mlvl_fairseq.errors import UserError

IMAGE, MONO, TEXT, REGION = range(4)


def stream(number, records, batch, share=None, is_main=True):
    return StreamOrder(f"stream {number}", number, np.arange(records), batch, share, is_main)


def text(records=50, batch=4, share=1.0):
    return stream(TEXT, records, batch, share, False)


def images(records=40, batch=4):
    return stream(IMAGE, records, batch)


def regions(records=9, batch=2, share=0.5):
    return stream(REGION, records, batch, share)


def content(batch):
    """Epochs, streams and records of a batch."""
    epochs, numbers, records = zip(*map(epoch_stream_record, batch))
    return set(epochs), set(numbers), list(records)


def sequence(order, epoch):
    """Epoch, stream and records of each batch."""
    found = []
    for batch in order.batches(epoch):
        (of,), (number,), records = content(batch)
        found.append((of, number, records))
    return found


def test_places_are_numbers_and_back():
    numbers = np.array([0, 5, (1 << 38) - 1])
    assert [epoch_stream_record(place) for place in places(30_000, 31, numbers)] == [(30_000, 31, n) for n in numbers]


@pytest.mark.parametrize("name, size", [("3m", 2838361), ("4m", 5004332)])
def test_golden_iterations(name, size):
    """Of an epoch, and of 30, of batches of 128 on 8 ranks as published; without the last batch, which is not full."""
    golden = GOLDEN["steps"][name]
    assert [iterations_of(size, 8 * 128, False), 30 * iterations_of(size, 8 * 128, False)] == golden
    assert iterations_of(size, 8 * 128) == golden[0] - 1


def test_an_iteration_is_a_batch_of_text_and_one_of_a_main_stream():
    order = TrainingOrder([text(), regions(), images()], 2, 1)
    streams = [number for _, number, _ in sequence(order, 1)]
    assert order.iterations == 5 and len(streams) == 20
    groups = np.array(streams).reshape(5, 2, 2)  # iterations, batches, ranks
    assert (groups[:, :, 0] == groups[:, :, 1]).all(), "ranks are on different streams"
    assert (groups[:, 0] == TEXT).all() and set(groups[:, 1].flatten()) <= {IMAGE, REGION}


def test_order_depends_on_seed_and_epoch_alone():
    def made(seed, epoch):
        return sequence(TrainingOrder([text(), regions(), images()], 2, seed), epoch)

    assert made(1, 2) == made(1, 2)
    assert made(1, 2) != made(2, 2) and [b[1:] for b in made(1, 1)] != [b[1:] for b in made(1, 2)]
    order = TrainingOrder([text(), regions(), images()], 2, 1)
    order.batches(1), order.batches(3)
    assert sequence(order, 2) == made(1, 2)


def test_shares_are_probabilities():
    order = TrainingOrder([text(share=0.25), regions(share=0.3), images(8000)], 1, 1)
    share = order.turns(1).mean(1)
    assert share == pytest.approx([0.25, 0.3, 0.7], abs=0.03)
    assert not (order.turns(1)[1] & order.turns(1)[2]).any()
    assert (order.turns(1) != order.turns(2)).any() and (order.turns(2) == order.turns(2)).all()
    both = stream(MONO, 9, 2, 0.6)  # of what the stream before it leaves
    three = TrainingOrder([regions(share=0.5), both, images(8000)], 1, 1).turns(1)
    assert (three.sum(0) == 1).all() and three.mean(1) == pytest.approx([0.5, 0.3, 0.2], abs=0.03)


@pytest.mark.parametrize("epochs", [1, 7])
def test_streams_go_on_where_an_epoch_ends(epochs):
    """Within a round of a stream each record comes once, whatever the ends of epochs."""
    order = TrainingOrder([text(50), regions(9), images(40)], 2, 1)
    drawn = {TEXT: [], REGION: [], IMAGE: []}
    for epoch in range(1, epochs + 1):
        for of, number, records in sequence(order, epoch):
            assert of == epoch
            drawn[number] += records
    for number, size in ((TEXT, 50), (REGION, 9), (IMAGE, 40)):
        whole = len(drawn[number]) // size * size
        rounds = np.array(drawn[number][:whole]).reshape(-1, size)
        assert (np.sort(rounds) == np.arange(size)).all()
    assert len(drawn[TEXT]) == epochs * 5 * 2 * 4


def test_ranks_see_what_one_process_with_larger_batches_sees():
    def drawn(ranks, batch):
        order = TrainingOrder([text(50, batch), images(40, batch)], ranks, 1)
        batches = sequence(order, 1)
        groups = [batches[start : start + ranks] for start in range(0, len(batches), ranks)]
        return [(group[0][1], sum((part[2] for part in group), [])) for group in groups]

    assert drawn(1, 8) == drawn(2, 4) == drawn(4, 2)


def test_what_an_epoch_leaves_is_told():
    order = TrainingOrder([images(43, 4)], 2, 1)
    assert (order.iterations, order.left) == (5, 3)
    published = TrainingOrder([images(43, 4)], 2, 1, whole_batches=False)
    assert (published.iterations, published.left) == (6, 0)
    assert TrainingOrder([images(43, 4)], 2, 1, epoch_records=16).iterations == 2


@pytest.mark.parametrize("share, number", [(0.0, IMAGE), (1.0, REGION)])
def test_a_stream_may_have_no_turn(share, number):
    order = TrainingOrder([regions(share=share), images()], 1, 1)
    assert {of for _, of, _ in sequence(order, 3)} == {number}


def test_only_text():
    order = TrainingOrder([text(20, 4)], 1, 1)
    assert [number for _, number, _ in sequence(order, 1)] == [TEXT] * 5


def test_only_regions():
    order = TrainingOrder([text(20, 4), regions(8, 2, 0.5)], 1, 1)
    assert [number for _, number, _ in sequence(order, 1)] == [TEXT, REGION] * 4


def test_too_few_records():
    with pytest.raises(UserError, match="stream 0: 7 records are no batch of 4 on each of 2 ranks"):
        TrainingOrder([images(7, 4)], 2, 1)


def test_joint_updates():
    assert TrainingOrder([text(), images()], 1, 1, updates=2)
    with pytest.raises(UserError, match="--update-freq 2: an iteration has 3 batches, .*: give 1 or 3"):
        TrainingOrder([text(), stream(MONO, 9, 3, 1.0, False), images()], 1, 1, updates=2)
    with pytest.raises(UserError, match="--update-freq 2: an iteration has more batches at one time"):
        TrainingOrder([text(share=0.5), images()], 1, 1, updates=2)


@pytest.mark.parametrize("records, ranks, left", [(40, 1, 0), (43, 2, 0), (41, 3, 0), (38, 3, 2), (5, 8, 5)])
def test_validation_has_every_record_once(records, ranks, left):
    order = ValidationOrder([images(records, 4), text(9, 4)], ranks)
    batches = order.batches(1)
    assert len(batches) % ranks == 0 and all(1 <= len(batch) <= 4 for batch in batches)
    groups = [batches[start : start + ranks] for start in range(0, len(batches), ranks)]
    assert all(len({content(batch)[1].pop() for batch in group}) == 1 for group in groups)
    seen = [record for batch in batches if content(batch)[1] == {IMAGE} for record in content(batch)[2]]
    assert sorted(seen) == list(range(records - left)) and order.left.get("stream 0", 0) == left
    assert all((one == other).all() for one, other in zip(batches, order.batches(5), strict=True))
