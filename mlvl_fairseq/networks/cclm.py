"""CCLM (Zeng et al. 2023): a dual encoder with a fusion encoder, in which a text looks at another view of the same
thing: an image, or its translation. What one does to images, the other does to texts."""

from dataclasses import dataclass, field
from typing import Any, Dict, NamedTuple, Optional

import torch
from torch import Tensor

from mlvl_fairseq.checkpoints.source import Tensors
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.fusion import FusionEncoder, KeysValues
from mlvl_fairseq.modules.hard_negatives import draw_negatives
from mlvl_fairseq.modules.heads import LanguageModelHead, MlpHead
from mlvl_fairseq.modules.towers.base import ImageTower
from mlvl_fairseq.modules.towers.bert import BertTower
from mlvl_fairseq.networks.base import Encoded, register_network
from mlvl_fairseq.networks.cclm_files import LayersOptions, text_tensors
from mlvl_fairseq.networks.dual_encoder import DualEncoderNetwork, DualEncoderOptions, TowerConfigs

MATCH = 1  # the class of pairs that belong together


@dataclass
class FusionOptions:
    """What a CCLM has beside its towers; ``--arch`` sets them all at once."""

    fusion_layers: int = field(
        default=6, metadata={"help": "layers of the fusion encoder, of the text tower's dimensions"}
    )
    one_projection: bool = field(
        default=False,
        metadata={
            "help": "project images as texts are, which needs towers of the same width; by default each has its own"
        },
    )


ARCHITECTURES: Dict[str, Dict[str, Any]] = {
    "cclm": {},
    "cclm_base": {"image_tower": "swin_base", "text_tower": "xlmr_large", "text_layers": 6},
}


class View(NamedTuple):
    """What a text is read beside: images or texts.

    Attributes:
        vector: [B, embed_dim], not normalised. states: [B, N, width]. mask: bool [B, N]; None: all of them.
        is_image: whether it is of images.
    """

    vector: Tensor
    states: Tensor
    mask: Optional[Tensor]
    is_image: bool


@register_network("cclm")
class CclmNetwork(DualEncoderNetwork):
    """Towers and projections of a dual encoder; behind them a fusion encoder and heads.

    Attributes:
        fusion: :class:`FusionEncoder`. itm_head: whether a text and its view match, 2 classes (:data:`MATCH`).
        lm_head: masked tokens. bbox_head: where in the image it is what a text says.
    """

    own_options = (DualEncoderOptions, FusionOptions, LayersOptions)
    may_be_missing = ("itm_head", "lm_head", "bbox_head")

    def __init__(
        self,
        image: ImageTower,
        text: BertTower,
        embed_dim: int,
        fusion_layers: int,
        one_projection: bool = False,
        **more,
    ):
        super().__init__(image, text, embed_dim, **more)
        self.keep_states()
        if one_projection:
            if image.width != text.width:
                raise UserError(f"--one-projection needs towers of one width: {image.width} and {text.width} are not")
            self.vision_proj = self.text_proj
        self.fusion = FusionEncoder(text.config, fusion_layers, image.width)
        self.itm_head, self.bbox_head = MlpHead(text.width, 2), MlpHead(text.width, 4)
        self.lm_head = LanguageModelHead(text.width, text.vocab_size, text.config.norm_eps)

    @classmethod
    def of_options(cls, options, configs: TowerConfigs) -> "CclmNetwork":
        """Random weights; see :meth:`DualEncoderNetwork.of_options`. `options`: :class:`FusionOptions`, too."""
        return cls(
            configs.image.build(),
            configs.text.build(),
            options.embed_dim,
            options.fusion_layers,
            options.one_projection,
            log_scale=str(options.temperature) == "log_scale",
            frozen_dropout=options.frozen_dropout,
            transform=str(options.transform),
        )

    @classmethod
    def public_tensors(cls, side: str, path, options, configs: TowerConfigs) -> Tensors:
        """See :class:`DualEncoderNetwork`; a file of texts has layers for the fusion encoder, too."""
        if side == "text":
            return text_tensors(path, options, configs.text)
        return super().public_tensors(side, path, options, configs)

    def encode_image(self, images: Tensor) -> Encoded:
        """See :class:`Network`; `states` [B, 1 + N, width] begin with what stands for the whole image."""
        output = self.visual_encoder(images)
        return Encoded(self.vision_proj(output.vector), self._sequence(output.vector, output.states))

    def _sequence(self, vector: Tensor, states: Tensor) -> Tensor:
        """States that begin with the vector, as those of a tower with a class token do by themselves."""
        return states if self.visual_encoder.has_class_token else torch.cat([vector.unsqueeze(1), states], 1)

    def encode_regions(self, images: Tensor, image_of: Tensor, patches: Tensor) -> tuple:
        """Parts of images.

        Args:
            images: [I, ...], see :meth:`encode_image`. image_of: int64 [B], the image of each region.
            patches: bool [B, N], which of its patches a region covers, row by row.

        Returns:
            regions as :class:`View` of B rows, and the whole images' :class:`Encoded` of I rows.
        """
        regions, whole = self.visual_encoder.regions(images, image_of, patches)
        mask = torch.cat([patches.new_ones(len(patches), 1), patches], 1)
        states = self._sequence(regions.vector, regions.states)
        image = Encoded(self.vision_proj(whole.vector), self._sequence(whole.vector, whole.states))
        return View(self.vision_proj(regions.vector), states, mask, True), image

    def fuse(self, text: Encoded, views: KeysValues, at: Optional[Tensor] = None) -> Tensor:
        """Texts read beside their views.

        Args:
            text: R texts. views: of R rows, see :meth:`FusionEncoder.keys_values`.
            at: int64 [R, P], the positions whose states are wanted; None: the first one.

        Returns:
            [R, P, width].
        """
        at = text.mask.new_zeros(len(text.mask), 1, dtype=torch.long) if at is None else at
        return self.fusion(text.states, text.mask, views, at)

    def image_keys_values(self, image: Encoded) -> KeysValues:
        """What :meth:`match_views` takes of images, computed once for however many texts."""
        return self.fusion.keys_values(image.states, image.mask, image=True)

    def match_views(self, text: Encoded, views: KeysValues) -> Tensor:
        """Scores [R] of texts and their views: the logit of the class "match", as published."""
        return self.itm_head(self.fuse(text, views)[:, 0])[:, MATCH]

    def match(self, image: Encoded, text: Encoded) -> Tensor:
        """See :class:`Network`."""
        return self.match_views(text, self.image_keys_values(image))

    def forward(self, tokens: Tensor, eos_positions: Tensor, images=None, lang=None, **pairs) -> Dict[str, Tensor]:
        """Without `pairs` as :class:`Network`; with them what pre-training asks, see :meth:`pretrain`."""
        if not pairs:
            return super().forward(tokens, eos_positions, images, lang)
        self.clamp_temperature()
        return self.pretrain(tokens, eos_positions, images, **pairs)

    def pretrain(
        self,
        tokens: Tensor,
        eos_positions: Tensor,
        images: Optional[Tensor],
        ids: Tensor,
        masked_tokens: Tensor,
        masked_positions: Tensor,
        view_tokens: Optional[Tensor] = None,
        view_eos_positions: Optional[Tensor] = None,
        image_of: Optional[Tensor] = None,
        patches: Optional[Tensor] = None,
        second_tokens: Optional[Tensor] = None,
        second_eos_positions: Optional[Tensor] = None,
    ) -> Dict[str, Tensor]:
        """A batch of pairs (view, text), of one stream (CCLM, section 3.2).

        Args:
            tokens, eos_positions: the texts, int64 [B, T] and [B].
            images: of the views, see :meth:`encode_image`; None: the views are texts.
            ids: int64 [B]; rows with the same one are no negatives of each other in matching.
            masked_tokens: the text of masked language modelling, with masks in it: of `tokens`, or where views are texts
                of `view_tokens`, which are then read beside `tokens`.
            masked_positions: int64 [B, M], where something is to be told; what is not real is told, too.
            view_tokens, view_eos_positions: views that are texts, int64 [B, S] and [B].
            image_of, patches: views that are regions of `images`, see :meth:`encode_regions`.
            second_tokens, second_eos_positions: another caption of each image.

        Returns:
            ``text``, ``image`` (of the views) and, where given, ``second`` [B, embed_dim], not normalised;
            ``matching`` [3B, 2]: logits of the B pairs, of each text beside another view, of another text beside each
            view; ``drawn`` bool [3B], False where there was no other; ``masked`` [B, M, width], states for
            :attr:`lm_head`; with regions ``boxes`` [B, 4], centre, width and height in shares of the image.
        """
        text = self.encode_text(tokens, eos_positions)
        whole = None
        if view_tokens is not None:
            own = self.encode_text(view_tokens, view_eos_positions)
            view = View(own.vector, own.states, own.mask, False)
        elif image_of is not None:
            view, whole = self.encode_regions(images, image_of, patches)
        else:
            own = self.encode_image(images)
            view = View(own.vector, own.states, own.mask, True)
        found = {"text": text.vector, "image": view.vector}
        views = self.fusion.keys_values(view.states, view.mask, view.is_image)
        found.update(self._matching(text, view, views, ids))
        if view_tokens is not None:
            masked = self.encode_text(masked_tokens, view_eos_positions)
            views = self.fusion.keys_values(text.states, text.mask)
        else:
            masked = self.encode_text(masked_tokens, eos_positions)
        found["masked"] = self.fuse(masked, views, masked_positions)
        if whole is not None:
            seen = self.image_keys_values(whole)[image_of]
            found["boxes"] = self.bbox_head(self.fuse(text, seen)[:, 0]).sigmoid()
        if second_tokens is not None:
            found["second"] = self.encode_text(second_tokens, second_eos_positions).vector
        return found

    def _matching(self, text: Encoded, view: View, views: KeysValues, ids: Tensor) -> Dict[str, Tensor]:
        """All pairs in one pass, whose keys and values are those of B views."""
        negatives = draw_negatives(text.vector, view.vector, self.temperature, ids)
        own = torch.arange(len(ids), device=ids.device)
        text_rows = torch.cat([own, own, negatives.texts])
        pairs = Encoded(text.vector, text.states[text_rows], text.mask[text_rows])
        states = self.fuse(pairs, views[torch.cat([own, negatives.images, own])])
        drawn = torch.cat([torch.ones_like(negatives.found), negatives.found, negatives.found])
        return {"matching": self.itm_head(states[:, 0]), "drawn": drawn}
