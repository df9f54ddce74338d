"""The fusion encoder of CCLM (Zeng et al. 2023, section 3.1): transformer layers over a text that look, between
self-attention and feed-forward, at the states of another view of the same thing: an image, or a translation.

Parameters are named as in the published files (`bert.encoder.layer.6` is `layer.0` here).
"""

from typing import List, NamedTuple, Optional, Tuple

import torch.nn.functional as F
from torch import Tensor, nn

from mlvl_fairseq.modules.attention import attention
from mlvl_fairseq.modules.packing import Packing
from mlvl_fairseq.modules.towers.bert import BertConfig, Layer, SubLayerOutput, new_linear


class KeysValues(NamedTuple):
    """Views as the layers of a fusion encoder see them, computed once for however many texts look at them.

    Attributes:
        layers: key and value of each layer, [B, heads, N, width / heads] each.
        mask: bool [B, N], positions that are looked at; None: all.
    """

    layers: List[Tuple[Tensor, Tensor]]
    mask: Optional[Tensor] = None

    def __getitem__(self, rows: Tensor) -> "KeysValues":
        """Those of some rows, int64 [R]: a row may be taken several times. Of a single view no copy is made."""
        mask = None if self.mask is None else _take(self.mask, rows)
        return KeysValues([(_take(key, rows), _take(value, rows)) for key, value in self.layers], mask)

    def first(self, count: int) -> "KeysValues":
        """Those of the first rows, not copied."""
        mask = None if self.mask is None else self.mask[:count]
        return KeysValues([(key[:count], value[:count]) for key, value in self.layers], mask)

    @property
    def nbytes(self) -> int:
        """Memory of keys and values."""
        return sum(part.nbytes for layer in self.layers for part in layer)


def _take(tensor: Tensor, rows: Tensor) -> Tensor:
    return tensor.expand(len(rows), *tensor.shape[1:]) if len(tensor) == 1 else tensor[rows]


class FusionEncoder(nn.Module):
    """A stack of :class:`FusionLayer`.

    Args:
        config: of the text side. layers: how many.
        image_width: of the states of images. Where it is the text's, images and texts as views share key and value
            maps, as published; otherwise images have maps of their own.
        views: that a text is read beside, each in a layer of its own: there are so many copies of every layer, which
            follow each other and share key and value maps (Zeng et al. 2023, for MaRVL).
    """

    def __init__(self, config: BertConfig, layers: int, image_width: int, views: int = 1):
        super().__init__()
        self.views, self.layer = views, nn.ModuleList()
        for number in range(layers * views):
            first = self.layer[number - number % views].crossattention.self if number % views else None
            self.layer.append(FusionLayer(config, image_width, first))

    def keys_values(self, states: Tensor, mask: Optional[Tensor] = None, image: bool = False) -> KeysValues:
        """Views of B texts, given by states [B, N, width] of images or texts and bool [B, N] where these have a
        meaning. Several views: states [B * views, N, width], those of a text one after the other, and no mask."""
        if self.views > 1 and mask is not None:
            raise ValueError("a text that is read beside several views sees all of each")
        layers: List[Tuple[Tensor, Tensor]] = []
        for number, layer in enumerate(self.layer):
            view = number % self.views
            if view == 0:
                every = layer.crossattention.self.keys_values(states, image)
            key, value = (part[view :: self.views] for part in every)
            layers.append((key, value))
        return KeysValues(layers, mask)

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        views: Optional[KeysValues],
        at: Optional[Tensor] = None,
        of_view: Optional[Tensor] = None,
    ) -> Tensor:
        """Read texts beside their views. On a CPU padding is not computed, see :class:`Packing`.

        Args:
            x: [R, T, width], states of the text encoder. mask: bool [R, T], False at padding.
            views: of R rows; None: texts are read by themselves, without cross-attention.
            at: int64 [R, P], the tokens whose states are wanted, which are all that the last layer computes; None: all
                positions, of which those at padding have no meaning.
            of_view: int64 [R], which of the views each text is read beside; None: that of its own row.

        Returns:
            [R, P or T, width].
        """
        packing = Packing.of_padded(mask, x.shape[-1])
        if packing is not None:
            x = packing.pack(x)
            of_view = packing.order if of_view is None else of_view[packing.order]
            at = None if at is None else packing.find(at)
        if views is not None and of_view is not None:
            views = views[of_view]
        seen = mask[:, None, None]
        looked_at = None if views is None or views.mask is None else views.mask[:, None, None]
        last = len(self.layer) - 1
        own = [None] * len(self.layer) if views is None else views.layers
        for number, (layer, view) in enumerate(zip(self.layer, own, strict=True)):
            x = layer(x, seen, view, looked_at, at if number == last else None, packing)
        if packing is None:
            return x
        return packing.unpack(x) if at is None else packing.of_batch(x)


class FusionLayer(Layer):
    """BERT's layer with cross-attention in the middle; `maps`: see :class:`_CrossAttention`."""

    def __init__(self, config: BertConfig, image_width: int, maps: "Optional[_CrossAttention]" = None):
        super().__init__(config)
        self.crossattention = CrossAttention(config, image_width, maps)

    def forward(
        self,
        x: Tensor,
        seen: Optional[Tensor],
        view: Optional[Tuple[Tensor, Tensor]],
        looked_at: Optional[Tensor],
        at: Optional[Tensor] = None,
        packing: Optional[Packing] = None,
    ) -> Tensor:
        """`seen`: bool [R, 1, 1, T], or [R, 1, T, T] where not every position sees the same.
        `view`: key and value; None: no cross-attention. `looked_at`: bool [R, 1, 1, N]. `at`: int64 [R, P]. With a
        packing `x` is [N, width], rows and positions are the packing's, and `seen` is not asked."""
        read = x
        if at is not None:
            read = x.gather(1, at.unsqueeze(-1).expand(-1, -1, x.shape[-1])) if packing is None else x[at]
        x = self.attention.output(self.attention.self(read, x, seen, packing), read)
        if view is not None:
            x = self.crossattention(x, view, looked_at, packing)
        return self.output(F.gelu(self.intermediate.dense(x)), x)


class CrossAttention(nn.Module):
    """Attention of a text [R, T, width], or packed [N, width], to its view, with its residual and its norm."""

    def __init__(self, config: BertConfig, image_width: int, maps: "Optional[_CrossAttention]" = None):
        super().__init__()
        self.self = _CrossAttention(config, image_width, maps)
        self.output = SubLayerOutput(config.width, config)

    def forward(
        self,
        x: Tensor,
        view: Tuple[Tensor, Tensor],
        looked_at: Optional[Tensor],
        packing: Optional[Packing] = None,
    ) -> Tensor:
        return self.output(self.self(x, view, looked_at, packing), x)


class _CrossAttention(nn.Module):
    """`maps`: another one, whose maps to keys and values are its own, too."""

    def __init__(self, config: BertConfig, image_width: int, maps: "Optional[_CrossAttention]" = None):
        super().__init__()
        self.heads, self.dropout = config.heads, config.attention_dropout
        self.own_maps = image_width != config.width
        if maps is not None:
            self.query, self.key, self.value = new_linear(config.width, config.width), maps.key, maps.value
        else:
            self.query, self.key, self.value = (new_linear(config.width, config.width) for _ in range(3))
        if self.own_maps and maps is not None:
            self.image_key, self.image_value = maps.image_key, maps.image_value
        elif self.own_maps:
            self.image_key, self.image_value = (new_linear(image_width, config.width) for _ in range(2))

    def _split(self, x: Tensor) -> Tensor:
        """[B, N, width] -> [B, heads, N, width / heads]."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def keys_values(self, states: Tensor, image: bool) -> Tuple[Tensor, Tensor]:
        own = image and self.own_maps
        key, value = (self.image_key, self.image_value) if own else (self.key, self.value)
        return self._split(key(states)), self._split(value(states))

    def forward(
        self, x: Tensor, view: Tuple[Tensor, Tensor], looked_at: Optional[Tensor], packing: Optional[Packing]
    ) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        if packing is not None:
            return packing.look_at(self.query(x), *view, self.heads, looked_at, dropout)
        query = self._split(self.query(x))
        mixed = attention(query, *view, looked_at, dropout=dropout)
        return mixed.transpose(1, 2).flatten(2)
