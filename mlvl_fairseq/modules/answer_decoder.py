"""The decoder of CCLM's answers to questions (Zeng et al. 2023, for xGQA): causal layers with cross-attention to the
states of the question, and a head over the vocabulary."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlvl_fairseq.modules.answer_tree import AnswerTree
from mlvl_fairseq.modules.fusion import FusionLayer, KeysValues
from mlvl_fairseq.modules.heads import LanguageModelHead
from mlvl_fairseq.modules.towers.bert import BertConfig, Embeddings

LOGITS = 2**26  # so many are there at a time when answers are ranked,
CACHED = 256, 1024  # and rows and words of them on a CPU, whose cache holds them
AT_ONCE = 128  # answers of a question that are computed together


class Ranked(NamedTuple):
    """Answers to B questions, the best first.

    Attributes:
        answers: int64 [B, k], their numbers. scores: [B, k], logarithms of their probabilities.
    """

    answers: Tensor
    scores: Tensor


class AnswerDecoder(nn.Module):
    """Embeddings, layers and head are its own; the head's last map is its embedding of words.

    Args:
        config: of the text side. layers: how many.
    """

    def __init__(self, config: BertConfig, layers: int):
        super().__init__()
        self.embeddings = Embeddings(config)
        self.layer = nn.ModuleList(FusionLayer(config, config.width) for _ in range(layers))
        self.lm_head = LanguageModelHead(config.width, config.vocab_size, config.norm_eps)

    def keys_values(self, states: Tensor, mask: Tensor) -> KeysValues:
        """Of questions [B, T, width] with bool [B, T] where they have tokens: computed once for all their answers."""
        return KeysValues([layer.crossattention.self.keys_values(states, image=False) for layer in self.layer], mask)

    def forward(self, pieces: Tensor, places: Tensor, seen: Tensor, question: KeysValues) -> Tensor:
        """States of pieces.

        Args:
            pieces, places: int64 [R, M], and how many pieces are before each. seen: bool [R or 1, 1, M, M], which
                pieces each one sees. question: of R rows.

        Returns:
            [R, M, width].
        """
        x, looked_at = self.embeddings(pieces, places), question.mask[:, None, None]
        for layer, view in zip(self.layer, question.layers, strict=True):
            x = layer(x, seen, view, looked_at)
        return x

    def log_likelihood(self, answers: Tensor, places: Tensor, question: KeysValues) -> Tensor:
        """How likely answers are.

        Args:
            answers: int64 [A, T], ``<s> ... </s>`` and padding. places: int64 [N], which of the A * (T - 1) positions
                before the last one have something behind them that is no padding.
            question: of A rows.

        Returns:
            [A], the sum of the logarithms of the probabilities of all pieces behind ``<s>``, with that of ``</s>``.
        """
        width = answers.shape[1] - 1
        depth = torch.arange(width, device=answers.device)
        seen = (depth[None, :] <= depth[:, None])[None, None]
        states = self(answers[:, :-1], depth.expand(len(answers), -1), seen, question)
        logits = self.lm_head(states.flatten(0, 1)[places], self.embeddings.word_embeddings.weight)
        each = -F.cross_entropy(logits.float(), answers[:, 1:].flatten()[places], reduction="none")
        return each.new_zeros(len(answers)).index_add(0, places // width, each)

    @torch.no_grad()
    def rank(self, question: KeysValues, tree: AnswerTree, k: int, first_twice: bool = False) -> Ranked:
        """The most likely answers, in two steps as published: the k answers whose first piece is likeliest (of equal
        ones those that come first), and then these by all of their pieces.

        Args:
            question: of B rows. tree: of A answers. k: how many; at most A.
            first_twice: as published, count the logarithm of the first piece's probability twice; of equal ones it is
                not said then which come first.
        """
        rows, device = len(question.mask), question.mask.device
        tree = tree.to(device)
        root = tree.piece[:1].expand(rows, 1)
        alone = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)
        states = self(root, torch.zeros_like(root), alone, question)[:, 0]
        first, number = tree.first_nodes.unique(return_inverse=True)
        every = torch.arange(rows, device=device).repeat_interleave(len(first))
        likely = self._edges(states, every, tree.piece[first].repeat(rows)).view(rows, -1)[:, number]
        k = min(k, len(tree))
        ranked = likely.topk(k) if first_twice else likely.sort(dim=1, descending=True, stable=True)
        top = ranked.indices[:, :k]
        top = top.gather(1, tree.ends[top].argsort(1))  # what begins alike is computed together
        scores = torch.cat([self._scores(question, tree, part) for part in top.split(AT_ONCE, 1)], 1)
        if first_twice:
            scores = scores + likely.gather(1, top)
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        return Ranked(top.gather(1, order), scores)

    def _scores(self, question: KeysValues, tree: AnswerTree, answers: Tensor) -> Tensor:
        """The logarithms of the probabilities [B, C] of answers int64 [B, C], in one pass over the nodes that each row
        needs, of which each sees those above it."""
        rows, nodes = len(answers), len(tree.piece)
        there = torch.zeros(rows, nodes + 1, dtype=torch.bool, device=answers.device)
        there.scatter_(1, tree.nodes[answers].flatten(1), True)
        there = there[:, :nodes]
        read = there & tree.goes_on  # of what ends an answer nothing is asked
        counts = read.sum(1)
        own = read.to(torch.uint8).sort(dim=1, descending=True, stable=True).indices[:, : int(counts.max())]
        real = torch.arange(own.shape[1], device=own.device) < counts[:, None]
        depth, above = tree.depth[own], tree.above[own]
        seen = above.gather(2, depth[:, None].expand(-1, own.shape[1], -1)) == own[:, None]
        states = self(tree.piece[own], depth, seen[:, None], question)[real]
        place = torch.zeros(rows, nodes, dtype=torch.long, device=own.device)
        place[read] = torch.arange(len(states), device=own.device)
        row, node = there[:, 1:].nonzero(as_tuple=True)
        node = node + 1
        each = states.new_zeros(rows, nodes + 1, dtype=torch.float32)
        each[row, node] = self._edges(states, place[row, tree.parent[node]], tree.piece[node])
        return each.gather(1, tree.nodes[answers].flatten(1)).view(*answers.shape, -1).sum(2)

    def _edges(self, states: Tensor, before: Tensor, pieces: Tensor) -> Tensor:
        """The logarithms of the probabilities [E] of pieces, int64 [E], each behind one of some states [R, width]:
        `before`, int64 [E]. Logits of all words are needed for their sums only."""
        words, hidden = self.embeddings.word_embeddings.weight, self.lm_head.hidden(states)
        total = log_totals(hidden, words, self.lm_head.bias)
        own = (hidden[before].float() * words[pieces].float()).sum(1) + self.lm_head.bias[pieces].float()
        return own - total[before]


def log_totals(hidden: Tensor, words: Tensor, bias: Tensor) -> Tensor:
    """The logarithms [R] of the sums of the exponentials of each row's logits, which are there a block at a time.

    Args:
        hidden: [R, width]. words: [V, width]. bias: [V].
    """
    rows, columns = CACHED if hidden.device.type == "cpu" else (max(1, LOGITS // len(words)), len(words))
    blocks = list(zip(words.split(columns), bias.split(columns), strict=True))
    found = []
    for part in hidden.split(rows):
        totals = []
        for block, own in blocks:
            logits = F.linear(part, block, own).float()
            top = logits.amax(1, keepdim=True)
            totals.append(logits.sub_(top).exp_().sum(1, keepdim=True).log_().add_(top))
        found.append(torch.cat(totals, 1).logsumexp(1))
    return torch.cat(found)
