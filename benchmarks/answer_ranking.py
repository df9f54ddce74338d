"""CCLM's answers to questions: a tree of candidates, against candidates that are tiled as published.

Random weights and questions (states of 14 tokens), 1,842 random answers, as many as GQA has, of 1 to 4 pieces of which
many begin alike. As published (Zeng et al. 2023, its xGQA model): the states of a question are copied for each of the
128 answers whose first piece is likeliest, keys and values are computed for each copy, the decoder goes through all
pieces of all answers, padded to the longest one, and through the whole vocabulary behind each.

`mlvl-evaluate vqa` computes keys and values once a question, and each beginning once that several answers share; behind
padding and behind an answer's last piece nothing is asked. What is left of the work is printed beside what it took:
CPU time of one thread (`small`: the best of three). Scores have to be equal to 1e-4, and the order of answers, too.

    python benchmarks/answer_ranking.py small       # width 128, 2 layers, 12,000 words: seconds
    python benchmarks/answer_ranking.py base        # width 1024, 6 layers, 250,002 words: minutes, 2 GB
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Tuple

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402  (after the number of threads is set)
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mlvl_fairseq.modules.answer_decoder import AnswerDecoder  # noqa: E402
from mlvl_fairseq.modules.answer_tree import AnswerTree  # noqa: E402
from mlvl_fairseq.modules.towers.bert import XlmrTowerConfig  # noqa: E402

ANSWERS, K, QUESTION, PAD = 1842, 128, 14, 1


class Size(NamedTuple):
    """Width, heads and layers of the decoder, words, questions; how often it is measured."""

    width: int
    heads: int
    layers: int
    words: int
    questions: int
    repeats: int


SIZES = {"small": Size(128, 4, 2, 12_000, 8, 3), "base": Size(1024, 16, 6, 250_002, 1, 1)}


def make(size: Size) -> Tuple[AnswerDecoder, Tensor, List[List[int]]]:
    """Decoder, states of questions, candidates."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    config = XlmrTowerConfig(size.words, size.width, size.layers, size.heads, max_positions=64)
    decoder = AnswerDecoder(config, size.layers).eval().requires_grad_(False)
    found: Dict[Tuple[int, ...], None] = {}
    while len(found) < ANSWERS:
        length = rng.choice([1, 2, 3, 4], p=[0.35, 0.4, 0.2, 0.05])
        found[(int(rng.integers(4, 804)), *rng.integers(4, 4000, length - 1).tolist())] = None
    states = torch.randn(size.questions, QUESTION, size.width)
    return decoder, states, [[0, *answer, 2] for answer in found]


def tiled(decoder: AnswerDecoder, states: Tensor, answers: List[List[int]], question_mask: Tensor):
    """Order and scores [questions, K], as published."""
    longest = max(map(len, answers))
    ids = torch.tensor([answer + [PAD] * (longest - len(answer)) for answer in answers])
    words = decoder.embeddings.word_embeddings.weight
    first = torch.zeros(len(states), 1, dtype=torch.long)
    alone = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    start = decoder(first, first, alone, decoder.keys_values(states, question_mask))[:, 0]
    likely = decoder.lm_head(start, words).log_softmax(-1)[:, ids[:, 1]]
    top = likely.sort(dim=1, descending=True, stable=True).indices[:, :K]
    width, scores = longest - 1, []
    places, seen = torch.arange(width), torch.ones(width, width, dtype=torch.bool).tril()[None, None]
    for row, own in enumerate(top):
        copies = decoder.keys_values(states[row].expand(K, -1, -1), question_mask[row].expand(K, -1))
        logits = decoder.lm_head(decoder(ids[own, :-1], places.expand(K, -1), seen, copies), words)
        each = logits.log_softmax(-1).gather(2, ids[own, 1:, None])[..., 0]
        scores.append((each * (ids[own, 1:] != PAD)).sum(1))
    best, order = torch.stack(scores).sort(dim=1, descending=True, stable=True)
    return top.gather(1, order), best


def measured(compute: Callable, repeats: int) -> Tuple[object, float]:
    """Its result, and the least CPU seconds of so many times."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        with torch.inference_mode():
            found = compute()
        times.append(time.process_time() - start)
    return found, min(times)


def multiply_adds(size: Size, pieces: float, copies: int) -> float:
    """Of a question's linear maps: of each piece those of every layer (self-attention 4, cross-attention 2,
    feed-forward 8 matrices of width * width), of the head and of all words; keys and values of each copy of the
    question. The first step, of one piece, is done by both."""
    square = size.width**2
    a_piece = 14 * size.layers * square + square + size.width * size.words
    return (pieces + 1) * a_piece + (copies + 1) * QUESTION * size.layers * 2 * square


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=SIZES)
    size = SIZES[parser.parse_args().size]
    decoder, states, answers = make(size)
    mask, tree = torch.ones(states.shape[:2], dtype=torch.bool), AnswerTree(answers)
    (order, scores), published = measured(lambda: tiled(decoder, states, answers, mask), size.repeats)
    ranked, ours = measured(lambda: decoder.rank(decoder.keys_values(states, mask), tree, K), size.repeats)
    torch.testing.assert_close(ranked.scores, scores, rtol=1e-4, atol=1e-4)
    same = (ranked.answers == order).float().mean().item()
    pieces = K * (max(map(len, answers)) - 1)
    needed = [len({tuple(answers[a][:n]) for a in row for n in range(1, len(answers[a]))}) for row in order.tolist()]
    print(f"pieces read a question: {pieces} tiled, {np.mean(needed):.0f} in the tree: {pieces / np.mean(needed):.1f}x")
    print(f"keys and values: of {K} copies of {QUESTION} tokens, of one")
    work = multiply_adds(size, pieces, K), multiply_adds(size, float(np.mean(needed)), 0)
    print(f"multiply-adds a question: {work[0] / 1e9:.2f}e9 tiled, {work[1] / 1e9:.2f}e9 in the tree: "
          f"{work[0] / work[1]:.1f}x is what the arithmetic allows")  # fmt: skip
    print(f"seconds a question: {published / size.questions:.3f} tiled, {ours / size.questions:.3f} in the tree: "
          f"{published / ours:.1f}x; {100 * same:.1f} % of the places in the order are the same")  # fmt: skip


if __name__ == "__main__":
    main()
