"""Answers to questions about images, told by a decoder (Zeng et al. 2023, for xGQA)."""

import re

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.answer_decoder import AnswerDecoder
from mlvl_fairseq.networks.cclm_heads.base import Head, register_head

LAYER = re.compile(r"fusion\.(layer\.(\d+)\..+)")
IMAGE_MAPS = (".image_key.", ".image_value.")


@register_head("answers")
class Answers(Head):
    """``run`` gives ``answers`` [A], the log-likelihood of answers ``answers`` [A, T] (``<s> ... </s>`` and padding),
    of whose positions ``answer_places`` [N] have pieces behind them (:meth:`AnswerDecoder.log_likelihood`), to the
    questions of rows ``answer_of`` [A]."""

    attribute, rank, several_images = "text_decoder", 4, True

    def build(self, text, options, fusion_layers):
        layers = fusion_layers if options.decoder_layers is None else options.decoder_layers
        if layers < 1:
            raise UserError(f"--decoder-layers {layers}: a decoder has one at least")
        return AnswerDecoder(text, layers)

    def started(self, tensors, layers):
        """The layers of the fusion encoder, the embeddings of the text encoder and the head of masked tokens."""
        found = {}
        for name, tensor in tensors.items():
            layer = LAYER.fullmatch(name)
            if layer and int(layer[2]) < layers and not any(maps in name for maps in IMAGE_MAPS):
                found[layer[1]] = tensor
            elif name.startswith("text_encoder.embeddings."):
                found[name.removeprefix("text_encoder.")] = tensor
            elif name.startswith("lm_head."):
                found[name] = tensor
        return found

    def run(self, network, text, image, answers, answer_places, answer_of):
        question = network.question(text, image)[answer_of]
        return {"answers": network.text_decoder.log_likelihood(answers, answer_places, question)}
