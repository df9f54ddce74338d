"""CLIP for `transformers`, and the same folder for sentence-transformers."""

from pathlib import Path
from typing import List, Optional, Sequence

import numpy as np

from mlvl_fairseq.checkpoints.formats.huggingface_clip import to_huggingface
from mlvl_fairseq.export.base import Export, Stock, register_export
from mlvl_fairseq.export.clip import PlainClip, unfit_clip
from mlvl_fairseq.export.pictures import PictureRecipe
from mlvl_fairseq.export.sentence_transformers import by_sentence_transformers
from mlvl_fairseq.export.tokenizers import write_clip_tokenizer
from mlvl_fairseq.files import write_json

PREPROCESSOR = "preprocessor_config.json"


@register_export("clip-hf", "a CLIP as transformers' CLIPModel; sentence-transformers loads the same folder")
class ClipHf(Export):
    programs = ("transformers", "sentence-transformers")
    library_name = "transformers"

    def fits(self, encoder) -> Optional[str]:
        return unfit_clip(encoder, self.options.lang)

    def programs_for(self, encoder) -> Sequence[str]:
        """sentence-transformers does not know the projection of a text tower alone."""
        return self.programs[:1] if encoder.network.vision is None else self.programs

    def write(self, encoder, folder: Path) -> None:
        clip = PlainClip.of(encoder, self.options.lang)
        to_huggingface(clip.weights, folder, clip.languages)
        write_clip_tokenizer(clip.tokenizer, folder, encoder.max_length)
        if clip.weights.vision_config is not None:
            write_json(folder / PREPROCESSOR, PictureRecipe.of(encoder.network.preprocess).for_transformers())

    def load(self, folder: Path, program: str) -> Stock:
        return by_sentence_transformers(folder) if program == "sentence-transformers" else _by_transformers(folder)

    def example(self, encoder, folder: Path) -> str:
        if encoder.network.vision is None:
            return f"""\
from transformers import AutoTokenizer, CLIPTextModelWithProjection

model = CLIPTextModelWithProjection.from_pretrained("{folder.name}")
tokenizer = AutoTokenizer.from_pretrained("{folder.name}")
batch = tokenizer(CAPTIONS, padding=True, truncation=True, return_tensors="pt")
texts = model(**batch).text_embeds"""
        return f"""\
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

model = CLIPModel.from_pretrained("{folder.name}")
tokenizer = AutoTokenizer.from_pretrained("{folder.name}")
processor = AutoImageProcessor.from_pretrained("{folder.name}", backend="pil")
batch = tokenizer(CAPTIONS, padding=True, truncation=True, return_tensors="pt")
texts = model.get_text_features(**batch).pooler_output
images = model.get_image_features(**processor(PICTURES, return_tensors="pt")).pooler_output

# or
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{folder.name}")
texts, images = model.encode(CAPTIONS), model.encode(PICTURES)"""

    def notes(self, encoder) -> List[str]:
        if encoder.network.vision is None:
            return ["There is no image tower in it: its vectors are compared with stored image features of its CLIP."]
        return [
            'Pictures are resized as in training with `backend="pil"`; without it, `transformers` takes torchvision, '
            "which rounds otherwise. In both, where an odd number of pixels is left over, the middle is cut out one "
            "pixel beside ours: that is the difference of pictures in the proof."
        ]


def _by_transformers(folder: Path) -> Stock:
    import torch
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel, CLIPTextModelWithProjection

    has_images = (folder / PREPROCESSOR).exists()
    model = (CLIPModel if has_images else CLIPTextModelWithProjection).from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    @torch.no_grad()
    def texts(captions):
        batch = tokenizer(list(captions), padding=True, truncation=True, return_tensors="pt")
        given = model.get_text_features(**batch).pooler_output if has_images else model(**batch).text_embeds
        return given.numpy()

    @torch.no_grad()
    def pixels(batch):
        return model.get_image_features(pixel_values=torch.from_numpy(batch)).pooler_output.numpy()

    def tokens(captions):
        return tokenizer(list(captions), truncation=True).input_ids

    def pictures(backend):
        processor = AutoImageProcessor.from_pretrained(folder, backend=backend)
        return lambda images: pixels(np.stack(processor(list(images), return_tensors="np")["pixel_values"]))

    if not has_images:
        return Stock(texts, tokens=tokens)
    return Stock(texts, pixels, {"pil": pictures("pil"), "torchvision": pictures("torchvision")}, tokens)
