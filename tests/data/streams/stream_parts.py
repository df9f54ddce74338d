"""Small streams: files of records, a tokenizer of the golden pieces, and what draws the least it can."""

import base64
import io
import json
from types import SimpleNamespace

import numpy as np
from golden import load_golden
from PIL import Image

from mlvl_fairseq.data.images.transforms import ImageTransform
from mlvl_fairseq.data.streams import STREAM_KINDS, Tools
from mlvl_fairseq.data.streams.kinds.image_text import ImageTextOptions
from mlvl_fairseq.data.streams.kinds.monolingual import MonolingualOptions
from mlvl_fairseq.data.streams.kinds.parallel_text import ParallelTextOptions
from mlvl_fairseq.data.streams.kinds.regions import RegionOptions
from mlvl_fairseq.data.streams.masking_options import MaskingOptions, masking_of
from mlvl_fairseq.data.streams.pictures import Pictures, PictureSourceOptions
from mlvl_fairseq.data.streams.sides import SideOptions
from mlvl_fairseq.data.streams.texts import CaptionOptions, Texts
from mlvl_fairseq.data.text.sentencepiece import load_xlmr_dictionary

GOLDEN = load_golden("cclm_streams")
OPTIONS = (
    ImageTextOptions,
    MonolingualOptions,
    ParallelTextOptions,
    RegionOptions,
    MaskingOptions,
    PictureSourceOptions,
    SideOptions,
    CaptionOptions,
)


class Pieces:
    """A tokenizer whose words are pieces, and which remembers what it was given."""

    def __init__(self, folder):
        path = folder / "dict.txt"
        path.write_text("".join(f"{piece} 1\n" for piece in GOLDEN["vocabulary"][3:]), encoding="utf-8")
        self.dictionary = load_xlmr_dictionary(path)
        self.bos, self.eos, self.pad = self.dictionary.bos(), self.dictionary.eos(), self.dictionary.pad()
        self.given = []

    def __len__(self):
        return len(self.dictionary)

    def encode_batch(self, texts):
        self.given += texts
        return [[self.dictionary.index(word) for word in text.split()] for text in texts]


class Least:
    """Draws the least number, the first of several and what comes in order; of probabilities, `chance`."""

    def __init__(self, chance=0.9):
        self.chance = chance

    def integers(self, low, high=None, endpoint=False):
        return 0 if high is None else low

    def random(self, size=None):
        return self.chance if size is None else np.full(size, self.chance)

    def permutation(self, number):
        return np.arange(number)

    def choice(self, number, size, replace=True):
        return np.arange(size)


def options(**given):
    values = {name: value for part in OPTIONS for name, value in vars(part()).items()}
    assert given.keys() <= values.keys()
    return SimpleNamespace(**{**values, **given})


def tools(tokenizer, form="fixed", size=64, side=2, augmentation=None, **given):
    chosen = options(**given)
    pictures = Pictures(chosen)
    transform = ImageTransform("lilt", size) if pictures.shape is None else None
    masking = masking_of(chosen, tokenizer)
    return Tools(chosen, Texts(chosen, tokenizer, form), pictures, masking, form, transform, augmentation, side)


def kind(name, *args, **given):
    return STREAM_KINDS[name](tools(*args, **given))


def picture(width=100, height=60, seed=0):
    """Noise, in base64."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path
