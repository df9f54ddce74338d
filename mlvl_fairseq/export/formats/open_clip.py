"""CLIP for open_clip, by its schema ``local-dir:``."""

from pathlib import Path
from typing import List, Optional

import numpy as np

from mlvl_fairseq.checkpoints.formats.open_clip import write_open_clip
from mlvl_fairseq.export.base import Export, Stock, register_export
from mlvl_fairseq.export.clip import PlainClip, unfit_clip
from mlvl_fairseq.export.pictures import PictureRecipe
from mlvl_fairseq.export.tokenizers import write_clip_tokenizer


@register_export("open-clip", "a CLIP for open_clip's local-dir:, and so for CLIP_benchmark")
class OpenClip(Export):
    programs = ("open_clip_torch",)
    library_name = "open_clip"

    def fits(self, encoder) -> Optional[str]:
        reason = unfit_clip(encoder, self.options.lang)
        if reason is None and encoder.network.vision is None:
            return "it has no image tower, without which open_clip loads no CLIP"
        return reason

    def write(self, encoder, folder: Path) -> None:
        clip = PlainClip.of(encoder, self.options.lang)
        preprocessing = PictureRecipe.of(encoder.network.preprocess).for_open_clip()
        write_open_clip(clip.weights, folder, preprocessing, clip.languages)
        write_clip_tokenizer(clip.tokenizer, folder, encoder.max_length)

    def load(self, folder: Path, program: str) -> Stock:
        import open_clip
        import torch

        name = f"local-dir:{folder}"
        model, _, preprocess = open_clip.create_model_and_transforms(name)
        tokenizer, model = open_clip.get_tokenizer(name), model.eval()

        @torch.no_grad()
        def texts(captions):
            return model.encode_text(tokenizer(list(captions))).numpy()

        @torch.no_grad()
        def pixels(batch):
            return model.encode_image(torch.from_numpy(batch)).numpy()

        def tokens(captions):
            end = tokenizer.tokenizer.eos_token_id
            return [row[: row.index(end) + 1] for row in tokenizer(list(captions)).tolist()]

        def pictures(images):
            return pixels(np.stack([preprocess(image).numpy() for image in images]))

        return Stock(texts, pixels, {"its own": pictures}, tokens, tokenizer.clean_fn)

    def example(self, encoder, folder: Path) -> str:
        return f"""\
import open_clip
import torch

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:{folder.name}")
tokenizer = open_clip.get_tokenizer("local-dir:{folder.name}")
model.eval()
texts = model.encode_text(tokenizer(CAPTIONS))
images = model.encode_image(torch.stack([preprocess(picture) for picture in PICTURES]))"""

    def notes(self, encoder) -> List[str]:
        return [
            "open_clip mends captions with ftfy before it cuts them: full-width punctuation becomes ASCII, for one. "
            "This model was trained on captions as they are; the proof says how many change."
        ]
