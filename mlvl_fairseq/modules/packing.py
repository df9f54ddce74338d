"""No padding: the tokens of all texts of a batch one behind the other, [N, width] instead of [B, T, width].

What a transformer does to each position by itself (nearly all of its arithmetic) it does to N rows at once. Only
attention has to know where a text begins and ends. On a CPU texts are sorted by length, and attention is called once a
length, on views; lengths that few texts have may share a call, with some padding, where that is cheaper (see
:mod:`mlvl_fairseq.modules.length_groups`). On a GPU nothing is padded, and torch's attention for texts of any length
(flash attention) takes the batch in one call; where that does not go, attention alone is padded.
"""

from functools import cached_property
from importlib.util import find_spec
from typing import List, NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from mlvl_fairseq.modules.attention import attention
from mlvl_fairseq.modules.block_adapter import Prefix
from mlvl_fairseq.modules.exporting import is_exported
from mlvl_fairseq.modules.length_groups import cheapest_groups, positions_a_call
from mlvl_fairseq.modules.padding import Lengths, real_tokens

HAS_VARLEN = find_spec("torch.nn.attention.varlen") is not None  # since torch 2.10
GROUPED = ("cpu",)  # devices on which attention is called once a group of texts of like length
VARLEN_TYPES = (torch.float16, torch.bfloat16)  # that flash attention takes
VARLEN_HEAD = 8  # dimensions of a head are a multiple of this


class Group(NamedTuple):
    """Texts that follow each other in a packing.

    Attributes:
        first: number of the first. texts: how many. length: positions of each.
        is_full: whether none of the positions is padding.
    """

    first: int
    texts: int
    length: int
    is_full: bool

    @property
    def positions(self) -> int:
        return self.texts * self.length

    @property
    def own(self) -> slice:
        return slice(self.first, self.first + self.texts)


class Packing:
    """Where the tokens of a batch are when they stand one behind the other.

    Args:
        real: bool [B, T], False at padding, which may be on either side; each text has a token at least.
        width: of the layers, which decides how many groups pay.
        lengths: int64 [B], tokens of each text, where Python reads them; None: it counts, and waits for a GPU.

    Attributes:
        order: int64 [B], the rows of the batch in the order of the packing.
        lengths: int64 [B], tokens of each text, in this order.
        source: int64 [N], where each position is in the batch, as ``row * T + column``.
        places: int64 [N], how many positions of its text are before each.
        first, last: int64 [B], the positions of each text's first and last token, in this order.
        groups: of attention; one for all where it is not called by groups.
    """

    def __init__(self, real: Tensor, width: int, lengths: Lengths = None):
        self.shape, self.real = real.shape, real
        batch, longest = real.shape
        sizes, device = real.sum(1), real.device
        self.is_grouped = device.type in GROUPED
        if self.is_grouped:
            self.order = sizes.argsort(stable=True)
            self.lengths = sizes[self.order]
            self.groups = self._groups(self.lengths, positions_a_call(width))
            padded = torch.tensor([group.length for group in self.groups for _ in range(group.texts)])  # of each text
            positions = sum(group.positions for group in self.groups)
        else:
            self.order = torch.arange(batch, device=device)
            self.lengths = padded = sizes
            self.groups = [Group(0, batch, longest, False)]
            positions = int((sizes if lengths is None else lengths).sum())
        self.first = padded.cumsum(0) - padded
        self.last = self.first + self.lengths - 1
        texts = torch.arange(batch, device=device).repeat_interleave(padded, output_size=positions)
        self.places = torch.arange(positions, device=device) - self.first[texts]
        columns = (~real).byte().argsort(dim=1, stable=True)  # of each row, the real ones first
        rows = self.order[texts]
        self.source = rows * longest + columns[rows, self.places]

    @classmethod
    def of_last(cls, last: Tensor, longest: int, width: int, lengths: Lengths = None) -> "Packing":
        """Of texts that are padded on the right: `last`, int64 [B], is the position of each text's last token."""
        return cls(real_tokens(last, longest), width, lengths)

    @classmethod
    def of_padded(cls, real: Tensor, width: int) -> "Optional[Packing]":
        """Of states that are given with padding, for layers that are more than self-attention; None where nothing is
        gained: there is no padding, attention is not called by groups, or a graph is exported."""
        if is_exported() or real.device.type not in GROUPED or bool(real.all()):
            return None
        return cls(real, width)

    @staticmethod
    def _groups(lengths: Tensor, call: float) -> List[Group]:
        sizes, first, groups = lengths.numpy(), 0, []
        for texts, length in cheapest_groups(sizes, call):
            groups.append(Group(first, texts, length, bool(sizes[first] == length)))
            first += texts
        return groups

    def pack(self, x: Tensor) -> Tensor:
        """[B, T, ...] -> [N, ...]."""
        return x.flatten(0, 1)[self.source]

    def unpack(self, x: Tensor) -> Tensor:
        """[N, width] -> [B, T, width]; what is at padding has no meaning."""
        batch, longest = self.shape
        return x.new_zeros(batch * longest, x.shape[1]).index_copy(0, self.source, x).unflatten(0, self.shape)

    def of_batch(self, x: Tensor) -> Tensor:
        """[B, ...], one row for each text of the packing, in the order of the batch."""
        return x[self.order.argsort()] if self.is_grouped else x

    def find(self, columns: Tensor) -> Tensor:
        """Positions of each text's tokens at ``columns[row]`` (int64 [B] or [B, P], of the batch), as many, in the
        packing's order; of padding 0."""
        batch, longest = self.shape
        position = torch.zeros(batch * longest, dtype=torch.long, device=columns.device)
        position[self.source] = torch.arange(len(self.source), device=columns.device)
        starts = (self.order * longest).view(-1, *[1] * (columns.dim() - 1))
        return position[starts + columns[self.order]]

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        heads: int,
        causal: bool = False,
        dropout: float = 0.0,
        prefix: Optional[Prefix] = None,
    ) -> Tensor:
        """Attention within each text.

        Args:
            query: [N, width]; or [B, width], one a text: that of its last token, where attention is `causal`; or
                [B, P, width], several a text, where it is not.
            key, value: [N, width]. heads: of attention.
            causal: a position sees those before it and itself only. dropout: of attention weights.
            prefix: further keys and values, by rows of the batch; positions of `visible` follow the tokens.

        Returns:
            as `query`.
        """
        if self.is_grouped:
            return self._by_groups(query, key, value, heads, causal, dropout, prefix)
        if self._takes_varlen(query, heads, dropout, prefix):
            return self._varlen(query, key, value, heads, causal)
        return self._padded(query, key, value, heads, causal, dropout, prefix)

    def _by_groups(self, query, key, value, heads, causal, dropout, prefix) -> Tensor:
        is_single, sizes = len(query) < len(key), [group.positions for group in self.groups]
        queries = query.split([group.texts for group in self.groups] if is_single else sizes)
        mixed = [
            _attend(
                *(_split_heads(_by_text(part, group), heads) for part in parts),
                causal and not is_single,
                self._masks[number] if is_single or not causal else None,
                dropout,
                prefix and prefix.select(self.order[group.own], group.length),
            )
            for number, (group, *parts) in enumerate(zip(self.groups, queries, key.split(sizes), value.split(sizes)))
        ]
        return _joined(mixed, query)

    def look_at(
        self, query: Tensor, key: Tensor, value: Tensor, heads: int, seen: Optional[Tensor] = None, dropout: float = 0.0
    ) -> Tensor:
        """Attention of each text to something else, by groups.

        Args:
            query: [N, width], or [B, P, width]. heads, dropout: see :meth:`attend`.
            key, value: [B, heads, S, width / heads], of each text, in the packing's order.
            seen: bool [B, 1, 1, S], which of these are looked at; None: all.

        Returns:
            as `query`.
        """
        queries = query.split([group.positions if query.dim() == 2 else group.texts for group in self.groups])
        mixed = [
            _attend(
                _split_heads(_by_text(part, group), heads),
                key[group.own],
                value[group.own],
                False,
                None if seen is None else seen[group.own],
                dropout,
                None,
            )
            for group, part in zip(self.groups, queries)
        ]
        return _joined(mixed, query)

    @cached_property
    def _masks(self) -> List[Optional[Tensor]]:
        """bool [texts, 1, 1, length] of each group, False at padding; None: it has none."""
        return [
            None if group.is_full else real_tokens(self.lengths[group.own] - 1, group.length)[:, None, None]
            for group in self.groups
        ]

    @staticmethod
    def _takes_varlen(query: Tensor, heads: int, dropout: float, prefix: Optional[Prefix]) -> bool:
        """Whether torch's attention for texts of any length can do it."""
        fits = query.dtype in VARLEN_TYPES and query.shape[1] // heads % VARLEN_HEAD == 0
        return HAS_VARLEN and query.is_cuda and fits and not dropout and prefix is None

    def _varlen(self, query, key, value, heads, causal) -> Tensor:
        from torch.nn.attention.varlen import varlen_attn  # which imports torch's compiler: seconds

        ends, longest, is_single = self._ends, self.shape[1], len(query) < len(key)
        asked = torch.arange(len(self.lengths) + 1, dtype=torch.int32, device=ends.device) if is_single else ends
        window = (-1, 0) if causal and not is_single else (-1, -1)
        parts = (part.unflatten(1, (heads, -1)) for part in (query, key, value))
        return varlen_attn(*parts, asked, ends, 1 if is_single else longest, longest, window_size=window).flatten(1)

    @cached_property
    def _ends(self) -> Tensor:
        """int32 [B + 1], where each text begins and the last one ends."""
        return F.pad(self.lengths.cumsum(0), (1, 0)).int()

    def _padded(self, query, key, value, heads, causal, dropout, prefix) -> Tensor:
        """With padding in attention only."""
        is_single = len(query) < len(key)
        queries = query.unsqueeze(1) if is_single else self._spread(query)
        parts = (_split_heads(part, heads) for part in (queries, self._spread(key), self._spread(value)))
        seen = self._masks[0] if is_single or not causal else None
        mixed = _whole(_attend(*parts, causal and not is_single, seen, dropout, prefix))
        return mixed if is_single else mixed[self._slots]

    @cached_property
    def _slots(self) -> Tensor:
        """int64 [N], where each position is in a batch padded on the right, as ``row * T + place``."""
        starts = torch.arange(self.shape[0], device=self.lengths.device) * self.shape[1]
        return starts.repeat_interleave(self.lengths, output_size=len(self.places)) + self.places

    def _spread(self, x: Tensor) -> Tensor:
        """[N, width] -> [B, T, width], zeros at padding, on the right."""
        batch, longest = self.shape
        spread = x.new_zeros(batch * longest, x.shape[1]).index_copy(0, self._slots, x)
        return spread.unflatten(0, self.shape)


def _by_text(x: Tensor, group: Group) -> Tensor:
    """Of a group's positions: [texts, positions of each, width]."""
    return x if x.dim() == 3 else x.unflatten(0, (group.texts, -1))


def _joined(parts: List[Tensor], query: Tensor) -> Tensor:
    """Mixed values of each group, as `query` has them."""
    parts = [_whole(part) if query.dim() == 2 else part.flatten(2) for part in parts]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _whole(x: Tensor) -> Tensor:
    """``[B, T, heads, d] -> [B * T, width]``, at once: what is compiled behind it would be so again for other views."""
    return x.reshape(x.shape[0] * x.shape[1], x.shape[2] * x.shape[3])


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """``[B, T, width] -> [B, heads, T, width / heads]``."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    causal: bool,
    seen: Optional[Tensor],
    dropout: float,
    prefix: Optional[Prefix],
) -> Tensor:
    """Queries [B, heads, Q, d], keys and values [B, heads, T, d] -> [B, Q, heads, d].

    `causal` masks, and `seen`, bool [B, 1, 1, T], are about tokens; what stands in front of them is seen by all.
    """
    if prefix is not None:
        front, heads = prefix.length, query.shape[1]
        if causal:
            seen, causal = torch.ones(key.shape[2], key.shape[2], dtype=torch.bool, device=key.device).tril(), False
        if seen is not None:
            seen = F.pad(seen, (front, 0), value=True)
        if prefix.visible is not None:
            visible = prefix.visible[:, None, None]
            seen = visible if seen is None else seen & visible
        key, value = (
            torch.cat([_split_heads(part.to(own.dtype), heads).expand(own.shape[0], -1, -1, -1), own], 2)
            for part, own in ((prefix.key, key), (prefix.value, value))
        )
    return attention(query, key, value, seen, causal, dropout).transpose(1, 2)
