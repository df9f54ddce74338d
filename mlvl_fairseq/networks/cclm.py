"""CCLM (Zeng et al. 2023): a dual encoder with a fusion encoder, in which a text looks at another view of the same
thing: an image, or its translation. What one does to images, the other does to texts."""

from typing import Callable, Dict, NamedTuple, Optional

import torch
from torch import Tensor, nn

from mlvl_fairseq.checkpoints.source import Tensors
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.answer_decoder import Ranked
from mlvl_fairseq.modules.answer_tree import AnswerTree
from mlvl_fairseq.modules.chunking import PerRow, in_chunks
from mlvl_fairseq.modules.fusion import FusionEncoder, KeysValues
from mlvl_fairseq.modules.hard_negatives import Rows
from mlvl_fairseq.modules.padding import Lengths
from mlvl_fairseq.modules.towers.base import ImageTower, TowerOutput
from mlvl_fairseq.modules.towers.bert import BertTower
from mlvl_fairseq.networks.base import Encoded, register_network
from mlvl_fairseq.networks.cclm_files import LayersOptions, text_tensors
from mlvl_fairseq.networks.cclm_heads import ALL, HEADS, HeadOptions, add_heads, compares_images, is_beside_contrast
from mlvl_fairseq.networks.cclm_negatives import NEGATIVES, States
from mlvl_fairseq.networks.cclm_options import ARCHITECTURES, CclmTowerOptions, FusionOptions
from mlvl_fairseq.networks.cclm_start import started
from mlvl_fairseq.networks.dual_encoder import DualEncoderNetwork, TowerConfigs
from mlvl_fairseq.networks.frozen_tower import FrozenTower
from mlvl_fairseq.networks.peft import LoraOptions, PeftOptions, add_parts

MATCH = 1  # the class of pairs that belong together
__all__ = ["ARCHITECTURES", "MATCH", "CclmNetwork", "View"]


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
        lm_head: masked tokens. bbox_head: where in the image it is what a text says. Other heads:
            :mod:`mlvl_fairseq.networks.cclm_heads`. A head that is not wanted is None; beside those of fine-tuning
            alone there are no projections and no temperature, and an encoded vector is its tower's.
        negatives: a key of :data:`NEGATIVES`.
    """

    own_options = (CclmTowerOptions, FusionOptions, HeadOptions, LayersOptions, PeftOptions, LoraOptions)
    may_be_missing = (*(head.attribute for head in HEADS.values()), "vision_proj", "text_proj", "temp", "logit_scale")
    negatives = "local"
    language_architectures = ()

    def __init__(
        self,
        image: ImageTower,
        text: BertTower,
        embed_dim: int,
        fusion_layers: int,
        one_projection: bool = False,
        heads: Optional[str] = None,
        images_per_text: int = 1,
        num_labels: int = 0,
        decoder_layers: Optional[int] = None,
        **more,
    ):
        super().__init__(image, text, embed_dim, **more)
        if not isinstance(text, BertTower):
            raise UserError(f"a fusion encoder goes on where a BERT ends, and a {type(text).__name__} is none")
        if fusion_layers < 1:
            raise UserError(f"--fusion-layers {fusion_layers}: a CCLM has one at least")
        self.keep_states()
        if one_projection:
            if image.width != text.width:
                raise UserError(f"--one-projection needs towers of one width: {image.width} and {text.width} are not")
            self.vision_proj = self.text_proj
        if images_per_text < 1:
            raise UserError(f"--images-per-text {images_per_text} is no number of images")
        self.fusion = FusionEncoder(text.config, fusion_layers, image.width, images_per_text)
        options = HeadOptions(ALL if heads is None else heads, images_per_text, num_labels, decoder_layers)
        add_heads(self, options.heads, text.config, options, fusion_layers)
        if not is_beside_contrast(options.heads):
            kept = compares_images(options.heads)  # no gradient reaches it
            self.vision_proj = self.vision_proj.requires_grad_(False) if kept else nn.Identity()
            self.text_proj = nn.Identity()
            self.register_parameter("temp" if hasattr(self, "temp") else "logit_scale", None)
        if self.itm_head is None:
            self.match = None
        if self.bbox_head is None:
            self.locate = None
        if self.text_decoder is None:
            self.question = self.rank_answers = None

    @classmethod
    def of_options(cls, options, configs: TowerConfigs) -> "CclmNetwork":
        """Random weights; see :meth:`DualEncoderNetwork.of_options`. `options`: :class:`FusionOptions`, too."""
        network = cls(
            configs.image.build(),
            configs.text.build(),
            options.embed_dim,
            options.fusion_layers,
            options.one_projection,
            options.heads,
            options.images_per_text or 1,
            options.num_labels,
            options.decoder_layers,
            log_scale=str(options.temperature) == "log_scale",
            frozen_dropout=options.frozen_dropout,
            transform=str(options.transform),
        )
        network.negatives = str(options.negatives)
        network.added = add_parts(network, options)
        return network

    @classmethod
    def public_tensors(cls, side: str, path, options, configs: TowerConfigs) -> Tensors:
        """See :class:`DualEncoderNetwork`; a file of texts has layers for the fusion encoder, too."""
        if side == "text":
            return text_tensors(path, options, configs.text)
        return super().public_tensors(side, path, options, configs)

    def started(self, tensors: Tensors, options=None) -> Tensors:
        """See :class:`Network`: copies of fusion layers where texts are read beside several images, and what
        heads begin as."""
        return started(self, tensors, (options and options.images_per_text) or 1)

    @property
    def embed_dim(self) -> int:
        return getattr(self.vision_proj, "out_features", self.text_encoder.width)

    def encode_image(self, images: Tensor) -> Encoded:
        """See :class:`DualEncoderNetwork`; `states` [B, 1 + N, width] begin with what stands for the whole image."""
        return super().encode_image(self._cast(images))

    def _texts(self, tokens: Tensor, eos_positions: Tensor, lengths: Lengths) -> Encoded:
        return self._in_chunks(self.encode_text, tokens, eos_positions, None, lengths)

    def _cast(self, images: Tensor) -> Tensor:
        """Given features in the type of the weights that read them."""
        given = self.visual_encoder.feature_shape is not None
        return images.to(next(self.fusion.parameters()).dtype) if given else images

    def _encoded(self, tower: nn.Module, projection: nn.Linear, *inputs: Tensor) -> Encoded:
        output: TowerOutput = tower(*inputs)
        states = output.states if tower is self.text_encoder else self._sequence(output)
        return Encoded(projection(output.vector), states, output.mask)

    def _sequence(self, output: TowerOutput) -> Tensor:
        """States of an image that begin with its vector, as those of a tower with a class token do by themselves."""
        vector = output.vector.unsqueeze(1)
        if output.states is None:
            return vector
        return output.states if self.visual_encoder.has_class_token else torch.cat([vector, output.states], 1)

    def encode_regions(self, images: Tensor, image_of: Tensor, patches: Tensor) -> tuple:
        """Parts of images.

        Args:
            images: [I, ...], see :meth:`encode_image`. image_of: int64 [B], the image of each region.
            patches: bool [B, N], which of its patches a region covers, row by row.

        Returns:
            regions as :class:`View` of B rows, and the whole images' :class:`Encoded` of I rows.
        """
        regions, whole = self.visual_encoder.regions(self._cast(images), image_of, patches)
        mask = torch.cat([patches.new_ones(len(patches), 1), patches], 1)
        image = Encoded(self.vision_proj(whole.vector), self._sequence(whole))
        return View(self.vision_proj(regions.vector), self._sequence(regions), mask, True), image

    def frozen_tower(self, side: str) -> Optional[FrozenTower]:
        """See :class:`DualEncoderNetwork`. Raises UserError: matching reads more of a tower than its vectors."""
        tower = super().frozen_tower(side)
        if tower is not None and self.itm_head is not None:
            raise UserError(f"matching reads all states of the {side} tower (--heads without matching does not)")
        return tower

    def fuse(
        self,
        text: Encoded,
        views: Optional[KeysValues],
        at: Optional[Tensor] = None,
        of_view: Optional[Tensor] = None,
    ) -> Tensor:
        """Texts read beside their views.

        Args:
            text: R texts. views: of R rows, see :meth:`FusionEncoder.keys_values`; None: texts are read by themselves.
            at: int64 [R, P], the tokens whose states are wanted; None: the first one.
            of_view: int64 [R], which of the views each text is read beside; None: that of its own row.

        Returns:
            [R, P, width].
        """
        at = text.mask.new_zeros(len(text.mask), 1, dtype=torch.long) if at is None else at
        return self.fusion(text.states, text.mask, views, at, of_view)

    def image_keys_values(self, image: Encoded) -> KeysValues:
        """What :meth:`match_views` takes of images, computed once for however many texts."""
        return self.fusion.keys_values(image.states, image.mask, image=True)

    def match_views(self, text: Encoded, views: KeysValues) -> Tensor:
        """Scores [R] of texts and their views: the logit of the class "match", as published."""
        return self.itm_head(self.fuse(text, views)[:, 0])[:, MATCH]

    def locate(self, text: Encoded, views: KeysValues) -> Tensor:
        """Boxes [R, 4] of what texts say of their images, see :class:`Network`."""
        return self.bbox_head(self.fuse(text, views)[:, 0]).sigmoid()

    def match(self, image: Encoded, text: Encoded) -> Tensor:
        """See :class:`Network`."""
        return self.match_views(text, self.image_keys_values(image))

    def forward(
        self,
        tokens: Tensor,
        eos_positions: Tensor,
        images: Optional[Tensor] = None,
        lang: Optional[str] = None,
        head: Optional[str] = None,
        lengths: Lengths = None,
        **more: PerRow,
    ) -> Dict[str, Tensor]:
        """With `head` what that one says, see its `run`: then `images` are [B * images_per_text, ...], those of a text
        one after the other. Without, and without `more`, as :class:`Network`; with `more` what pre-training asks, see
        :meth:`pretrain`.

        Raises:
            UserError: the network has no such head.
        """
        if head is not None:
            return self._ask(head, self._texts(tokens, eos_positions, lengths), images, **more)
        if not more:
            return super().forward(tokens, eos_positions, images, lang, lengths=lengths)
        self.clamp_temperature()
        return self.pretrain(tokens, eos_positions, images, lengths=lengths, **more)

    def _ask(self, head: str, text: Encoded, images: Optional[Tensor], **more: Tensor):
        if head not in HEADS or getattr(self, HEADS[head].attribute) is None:
            raise UserError(f"this CCLM has no head '{head}': train one with --heads {head}")
        image = None if images is None else self._in_chunks(self.encode_image, images)
        return HEADS[head].run(self, text, image, **more)

    def first_states(self, text: Encoded, image: Optional[Encoded]) -> Tensor:
        """States [B, width] of ``<s>`` of texts that are read beside their images; None: by themselves."""
        views = None if image is None else self.image_keys_values(image)
        return self._fused(text, views, torch.zeros_like(text.mask[:, :1], dtype=torch.long))[:, 0]

    def all_states(self, text: Encoded, image: Optional[Encoded]) -> Encoded:
        """As :meth:`first_states`, of all tokens."""
        views = None if image is None else self.image_keys_values(image)
        last = text.mask.sum(1, keepdim=True) - 1  # of which there are copies behind the end
        every = torch.minimum(torch.arange(text.mask.shape[1], device=last.device), last)
        return Encoded(text.vector, self._fused(text, views, every), text.mask)

    def question(self, text: Encoded, image: Optional[Encoded]) -> KeysValues:
        """Questions, read beside their images, as the decoder of answers looks at them: computed once for however many
        answers."""
        own = self.all_states(text, image)
        return self.text_decoder.keys_values(own.states, own.mask)

    def rank_answers(self, question: KeysValues, tree: AnswerTree, k: int, first_twice: bool = False) -> Ranked:
        """See :meth:`AnswerDecoder.rank`. `question`: of :meth:`question`."""
        return self.text_decoder.rank(question, tree, k, first_twice)

    def pretrain(
        self,
        tokens: Tensor,
        eos_positions: Tensor,
        images: Optional[Tensor],
        ids: Tensor,
        masked_tokens: Optional[Tensor] = None,
        masked_positions: Optional[Tensor] = None,
        view_tokens: Optional[Tensor] = None,
        view_eos_positions: Optional[Tensor] = None,
        image_of: Optional[Tensor] = None,
        patches: Optional[Tensor] = None,
        second_tokens: Optional[Tensor] = None,
        second_eos_positions: Optional[Tensor] = None,
        masked_eos_positions: Optional[Tensor] = None,
        lengths: Lengths = None,
        masked_lengths: Lengths = None,
        view_lengths: Lengths = None,
        second_lengths: Lengths = None,
    ) -> Dict[str, Tensor]:
        """A batch of pairs (view, text), of one stream (CCLM, section 3.2). What needs a head that is not there is left
        out.

        Args:
            tokens, eos_positions: the texts, int64 [B, T] and [B].
            images: of the views, see :meth:`encode_image`; None: the views are texts.
            ids: int64 [B]; rows with the same one are no negatives of each other in matching.
            masked_tokens: the text of masked language modelling, with masks in it: of `tokens`, or where views are
                texts of `view_tokens`, which are then read beside `tokens`. None: no such.
            masked_positions: int64 [B, M], where something is to be told; what is not real is told, too.
            view_tokens, view_eos_positions: views that are texts, int64 [B, S] and [B].
            image_of, patches: views that are regions of `images`, see :meth:`encode_regions`.
            second_tokens, second_eos_positions: another caption of each image.
            masked_eos_positions: int64 [B], where `masked_tokens` end that are both texts in one. They are read by
                themselves, and nothing is matched: translation language modelling (TLM, Conneau and Lample 2019).
            lengths, masked_lengths, view_lengths, second_lengths: of `tokens` and the others, see :meth:`encode_text`.

        Returns:
            ``text``, ``image`` (of the views) and, where given, ``second`` [B, embed_dim], not normalised;
            ``matching`` [3B, 2]: logits of the B pairs, of each text beside another view, of another text beside each
            view; ``drawn`` bool [3B], False where there was no other; ``masked`` [B, M, width], states for
            :attr:`lm_head`; with regions ``boxes`` [B, 4], centre, width and height in shares of the image.
        """
        text, whole = self._texts(tokens, eos_positions, lengths), None
        if view_tokens is not None:
            own = self._texts(view_tokens, view_eos_positions, view_lengths)
            view = View(own.vector, own.states, own.mask, False)
        elif image_of is not None:
            view, whole = self.encode_regions(images, image_of, patches)
        else:
            own = self._in_chunks(self.encode_image, images)
            view = View(own.vector, own.states, own.mask, True)
        found, views = {"text": text.vector, "image": view.vector}, None
        if masked_eos_positions is None:
            views = self._match_pairs(found, text, view, ids)
        if self.lm_head is not None and masked_tokens is not None:
            last = eos_positions if masked_eos_positions is None else masked_eos_positions
            if view_tokens is not None and masked_eos_positions is None:
                last, views = view_eos_positions, self.fusion.keys_values(text.states, text.mask)
            masked = self._texts(masked_tokens, last, masked_lengths)
            found["masked"] = self._fused(masked, views, masked_positions)
        if whole is not None and self.bbox_head is not None:
            seen, first = self.image_keys_values(whole)[image_of], torch.zeros_like(ids)[:, None]
            found["boxes"] = self.bbox_head(self._fused(text, seen, first)[:, 0]).sigmoid()
        if second_tokens is not None:
            found["second"] = self._texts(second_tokens, second_eos_positions, second_lengths).vector
        return found

    def _match_pairs(self, found: Dict[str, Tensor], text: Encoded, view: View, ids: Tensor) -> KeysValues:
        """Put ``matching`` and ``drawn`` into `found`: all pairs in one pass, keys and values computed once a view.
        Returns these of the B views."""
        if self.itm_head is None:
            return self.fusion.keys_values(view.states, view.mask, view.is_image)
        pairs, texts, own = Rows(text.vector, view.vector, ids), States(text.states, text.mask), States(*view[1:3])
        pool = NEGATIVES[self.negatives](pairs, texts, own, self.temperature)
        views, rows = self.fusion.keys_values(*pool.views, view.is_image), torch.arange(len(ids), device=ids.device)
        texts, negatives = Encoded(text.vector, *pool.texts), pool.negatives
        text_rows, view_rows = torch.cat([rows, rows, negatives.texts]), torch.cat([rows, negatives.images, rows])
        states = self._fused(texts, views, torch.zeros_like(text_rows)[:, None], text_rows, view_rows)
        found["matching"] = self.itm_head(states[:, 0])
        found["drawn"] = torch.cat([torch.ones_like(negatives.found), negatives.found, negatives.found])
        return views.first(len(ids))

    def _in_chunks(self, encode: Callable[..., Encoded], *inputs: PerRow) -> Encoded:
        """Rows in chunks of ``encode_chunk``."""

        def parts(*rows: PerRow) -> Dict[str, Tensor]:
            return {name: part for name, part in encode(*rows)._asdict().items() if part is not None}

        return Encoded(**in_chunks(parts, inputs, self.encode_chunk))

    def _fused(
        self,
        text: Encoded,
        views: Optional[KeysValues],
        at: Tensor,
        text_rows: Optional[Tensor] = None,
        view_rows: Optional[Tensor] = None,
    ) -> Tensor:
        """:meth:`fuse` of some rows, int64 [R], in chunks; None: of all."""
        every = torch.arange(len(at), device=at.device)
        rows = (every if text_rows is None else text_rows), (every if view_rows is None else view_rows)

        def fuse(of_text: Tensor, of_view: Tensor, at: Tensor) -> Tensor:
            if len(of_text) == len(text.mask) and text_rows is None:
                return self.fuse(text, views, at)
            own = Encoded(text.vector, text.states[of_text], text.mask[of_text])
            return self.fuse(own, views, at, of_view)

        return in_chunks(fuse, (*rows, at), self.encode_chunk)
