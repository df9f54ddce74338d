"""Candidate answers as a tree of pieces, in which what several begin with is there once."""

from typing import Dict, List, Sequence, Tuple

import torch
from torch import Tensor


class AnswerTree:
    """A node is a piece behind the pieces before it; the root is the first piece of all, ``<s>``. Nodes are numbered so
    that a parent comes before its children, and answers that begin alike are near each other.

    Args:
        answers: ids of each, ``<s> ... </s>``.

    Attributes:
        piece, depth, parent: int64 [N], of each node; the root's parent is itself.
        goes_on: bool [N], whether anything comes behind it.
        nodes: int64 [A, D], those of each answer, N behind its end. ends: int64 [A], the last one of each.
        above: int64 [N, D], those of each node up to
            itself, N behind it.

    Raises:
        ValueError: there is none, they begin differently, or one is shorter than two pieces.
    """

    def __init__(self, answers: Sequence[Sequence[int]]):
        if not answers or any(len(answer) < 2 or answer[0] != answers[0][0] for answer in answers):
            raise ValueError("answers are <s> ... </s> with one <s>")
        longest = max(map(len, answers))
        paths: List[Tuple[int, ...]] = [(0,)]
        pieces, places = [answers[0][0]], [[0] * len(answer) for answer in answers]
        known: Dict[Tuple[int, int], int] = {}  # parent and piece -> node
        for number in sorted(range(len(answers)), key=lambda number: tuple(answers[number])):
            node = 0
            for place, piece in enumerate(answers[number][1:], 1):
                parent, node = node, known.setdefault((node, piece), len(pieces))
                if node == len(pieces):
                    pieces.append(piece)
                    paths.append((*paths[parent], node))
                places[number][place] = node
        count = len(pieces)
        self.piece = torch.tensor(pieces)
        self.depth = torch.tensor([len(path) - 1 for path in paths])
        self.parent = torch.tensor([path[-2] if len(path) > 1 else 0 for path in paths])
        self.goes_on = torch.zeros(count, dtype=torch.bool).index_fill_(0, self.parent, True)
        self.nodes = torch.tensor([path + [count] * (longest - len(path)) for path in places])
        self.ends = torch.tensor([path[-1] for path in places])
        self.above = torch.tensor([[*path, *[count] * (longest - len(path))] for path in paths])

    def __len__(self) -> int:
        """Answers."""
        return len(self.nodes)

    def to(self, device) -> "AnswerTree":
        """Itself, on that device."""
        for name, tensor in vars(self).items():
            setattr(self, name, tensor.to(device))
        return self

    @property
    def first_nodes(self) -> Tensor:
        """int64 [A], the nodes of the pieces behind the root."""
        return self.nodes[:, 1]
