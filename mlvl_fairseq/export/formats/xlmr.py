"""A text encoder for fairseq, as the folder of an XLM-R."""

from pathlib import Path
from typing import List, Optional

import numpy as np

from mlvl_fairseq.checkpoints.formats.xlmr import XlmrWeights, write_xlmr
from mlvl_fairseq.export.base import Export, Stock, register_export

WEIGHTS = "model.pt"


@register_export("xlmr", "an MTE's encoder as fairseq's XLM-R: model.pt, dict.txt, sentencepiece.bpe.model")
class Xlmr(Export):
    programs = ("fairseq-fixed",)
    library_name = "fairseq"

    def fits(self, encoder) -> Optional[str]:
        return None if encoder.family == "mte" else f"it is a network of the family '{encoder.family}' and no MTE"

    def write(self, encoder, folder: Path) -> None:
        xlmr = encoder.network.encoder.xlmr
        tensors = {name: tensor for name, tensor in xlmr.state_dict().items() if name != "version"}
        encoder.tokenizer.save(folder)
        write_xlmr(XlmrWeights(xlmr.config, tensors, encoder.source), folder / WEIGHTS)

    def load(self, folder: Path, program: str) -> Stock:
        import torch
        from fairseq.models.roberta import XLMRModel

        hub = XLMRModel.from_pretrained(str(folder), checkpoint_file=WEIGHTS).eval()
        longest = hub.model.max_positions()

        def tokens(captions):
            every = [hub.encode(caption).tolist() for caption in captions]
            return [ids if len(ids) <= longest else [*ids[: longest - 1], ids[-1]] for ids in every]

        @torch.no_grad()
        def texts(captions):
            states = [hub.extract_features(torch.tensor(ids)) for ids in tokens(captions)]
            return np.stack([one[0].mean(0).numpy() for one in states])

        return Stock(texts, tokens=tokens)

    def example(self, encoder, folder: Path) -> str:
        return f"""\
from fairseq.models.roberta import XLMRModel

model = XLMRModel.from_pretrained("{folder.name}", checkpoint_file="{WEIGHTS}").eval()
texts = [model.extract_features(model.encode(caption))[0].mean(0) for caption in CAPTIONS]"""

    def notes(self, encoder) -> List[str]:
        return [
            "The head for masked words, which fairseq wants in such a file, was not trained: it scores by similarity "
            "to the embeddings."
        ]
