"""Networks of two towers for sentence-transformers: a Router with a side for texts and one for pictures."""

from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Type

import torch

from mlvl_fairseq.data.text import ClipTokenizer
from mlvl_fairseq.export.base import Export, Stock, register_export
from mlvl_fairseq.export.pictures import PictureRecipe
from mlvl_fairseq.export.sentence_transformers import Route, by_sentence_transformers, write_router
from mlvl_fairseq.export.tokenizers import unfit_tokenizer, write_clip_tokenizer, write_fast_tokenizer
from mlvl_fairseq.export.towers import has_adapters, stock_tower
from mlvl_fairseq.export.xlmr_tower import plain_tower, unfit_projector
from mlvl_fairseq.files import write_json
from mlvl_fairseq.networks import NETWORKS, Network
from mlvl_fairseq.networks.dual_encoder import DualEncoderNetwork
from mlvl_fairseq.networks.mte import MteNetwork
from mlvl_fairseq.networks.trikd import OtherTeacher, TrikdNetwork

PREPROCESSOR = "preprocessor_config.json"


@register_export("sentence-transformers", "TriKD, MTE, and towers without adapters (LilT, LoRA merged), as a Router")
class SentenceTransformers(Export):
    programs = ("sentence-transformers",)
    library_name = "sentence-transformers"

    def fits(self, encoder) -> Optional[str]:
        sides = SIDES.get(NETWORKS[encoder.family])
        if sides is None:
            return f"it is a network of the family '{encoder.family}'"
        return sides.unfit(encoder) or unfit_tokenizer(encoder.tokenizer, self.options.lang)

    def write(self, encoder, folder: Path) -> None:
        with torch.no_grad():
            write_router(folder, SIDES[NETWORKS[encoder.family]].routes(encoder, self.options.lang))

    def load(self, folder: Path, program: str) -> Stock:
        return by_sentence_transformers(folder)

    def example(self, encoder, folder: Path) -> str:
        lines = f"""\
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{folder.name}")
texts = model.encode(CAPTIONS)"""
        return lines if encoder.network.preprocess is None else f"{lines}\nimages = model.encode(PICTURES)"

    def notes(self, encoder) -> List[str]:
        if encoder.network.preprocess is None:
            return ["There is no image tower in it: its vectors are compared with stored features of images."]
        return [
            "It resizes pictures in torchvision, on whole numbers of colour, which rounds otherwise than in training: "
            "that is the difference of pictures in the proof."
        ]


class Sides(NamedTuple):
    """A family of networks as routes.

    Attributes:
        unfit: why a network of it has none, in words; None: it has. routes: of a network and a language.
    """

    unfit: Callable[..., Optional[str]]
    routes: Callable[..., Dict[str, Route]]


def _trikd(encoder, lang: Optional[str]) -> Dict[str, Route]:
    """Text encoder and X-projector are one stack of layers; CLIP's projection and the C-projector are one map."""
    network = encoder.network
    tower = stock_tower(plain_tower(network.mte, network.x_projector))
    routes = {"text": Route(tower, _text_inputs(encoder, lang), last_token=True)}
    if network.vision is not None:
        weight = (network.c_projector.weight.double() @ network.vision.proj.double().T).float()
        routes["image"] = Route(stock_tower(network.vision), _image_inputs(encoder), weight)
    return routes


def _unfit_trikd(encoder) -> Optional[str]:
    if isinstance(encoder.network.vision, OtherTeacher):
        return "the model in CLIP's place is none, and has no stock image tower"
    return unfit_projector(encoder)


def _mte(encoder, lang: Optional[str]) -> Dict[str, Route]:
    tower = stock_tower(plain_tower(encoder.network.encoder.xlmr))
    return {"text": Route(tower._replace(pooling="mean"), _text_inputs(encoder, lang))}


def _dual_encoder(encoder, lang: Optional[str]) -> Dict[str, Route]:
    network, routes = encoder.network, {}
    text, image = network.text_proj, network.vision_proj
    routes["text"] = Route(stock_tower(network.text_encoder), _text_inputs(encoder, lang), text.weight, text.bias)
    if network.preprocess is not None:
        tower = stock_tower(network.visual_encoder)
        routes["image"] = Route(tower, _image_inputs(encoder), image.weight, image.bias)
    return routes


def _unfit_dual_encoder(encoder) -> Optional[str]:
    network = encoder.network
    towers = {"text": network.text_encoder}
    if network.preprocess is not None:
        towers["image"] = network.visual_encoder
    for side, tower in towers.items():
        if has_adapters(tower):
            return f"its {side} tower has layerwise adapters, for which no stock model has a place"
        if stock_tower(tower) is None:
            return f"its {side} tower, a {type(tower).__name__}, is no model of transformers"
    return None


def _text_inputs(encoder, lang: Optional[str]) -> Callable[[Path], None]:
    tokenizer = encoder.tokenizer.of_language(lang)
    write = write_clip_tokenizer if isinstance(tokenizer, ClipTokenizer) else write_fast_tokenizer
    return lambda folder: write(tokenizer, folder, encoder.max_length)


def _image_inputs(encoder) -> Callable[[Path], None]:
    content = PictureRecipe.of(encoder.network.preprocess).for_transformers()
    return lambda folder: write_json(folder / PREPROCESSOR, content)


SIDES: Dict[Type[Network], Sides] = {
    TrikdNetwork: Sides(_unfit_trikd, _trikd),
    MteNetwork: Sides(lambda encoder: None, _mte),
    DualEncoderNetwork: Sides(_unfit_dual_encoder, _dual_encoder),
}
