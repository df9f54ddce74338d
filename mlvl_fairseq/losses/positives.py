"""Which rows of a batch are positives of each other, by the name that options use."""

from typing import Callable, Dict, NamedTuple, Optional

from torch import Tensor


class Targets(NamedTuple):
    """What the softmax over keys is asked for.

    Attributes:
        positives: int64 [Q], the one positive key of each query; or float [Q, K], weights of its positive keys.
        excluded: bool [Q, K], keys that are neither positive nor negative; None: there are none.
    """

    positives: Tensor
    excluded: Optional[Tensor] = None


Rule = Callable[[Tensor, Tensor, Tensor], Targets]
POSITIVES: Dict[str, Rule] = {}


def register_positives(name: str) -> Callable[[Rule], Rule]:
    """A rule ``(query_ids [Q], key_ids [K], own [Q]) -> Targets``; key ``own[i]`` is of query i's own row."""

    def register(rule: Rule) -> Rule:
        POSITIVES[name] = rule
        return rule

    return register


def multi_positive_targets(query_ids: Tensor, key_ids: Tensor) -> Tensor:
    """Target distribution [Q, K]: uniform over the keys that carry the query's id (Yang et al. 2024, section 3.3)."""
    same = _same(query_ids, key_ids).float()
    return same / same.sum(dim=1, keepdim=True)


@register_positives("mean")
def mean_over_positives(query_ids: Tensor, key_ids: Tensor, own: Tensor) -> Targets:
    """All keys with the query's id, each with weight 1 / their number: every query counts the same."""
    return Targets(multi_positive_targets(query_ids, key_ids))


@register_positives("sum")
def sum_over_positives(query_ids: Tensor, key_ids: Tensor, own: Tensor) -> Targets:
    """All keys with the query's id, each with weight 1: an image counts with the square of its captions in the batch.

    As published for the fine-tuning of mCLIP (Chen et al. 2023).
    """
    return Targets(_same(query_ids, key_ids).float())


@register_positives("diagonal")
def own_row(query_ids: Tensor, key_ids: Tensor, own: Tensor) -> Targets:
    """The query's own row; other rows with its id are negatives, false ones. As CLIP (Radford et al. 2021) and, as
    published, the pre-training of mCLIP do it.
    """
    return Targets(own)


@register_positives("masked")
def own_row_without_false_negatives(query_ids: Tensor, key_ids: Tensor, own: Tensor) -> Targets:
    """The query's own row; other rows with its id leave the denominator."""
    return Targets(own, _same(query_ids, key_ids).scatter(1, own[:, None], False))


def _same(query_ids: Tensor, key_ids: Tensor) -> Tensor:
    return query_ids[:, None] == key_ids[None, :]
