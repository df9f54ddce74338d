"""One checkpoint of ours that needs no other file, to evaluate, to start from, to go on with."""

from pathlib import Path
from typing import List, Optional

from mlvl_fairseq.checkpoints.formats.trained_clip import write_whole_clip
from mlvl_fairseq.checkpoints.source import WeightSource
from mlvl_fairseq.data.text.sentencepiece import SentencePieceTokenizer
from mlvl_fairseq.export.base import Export, Stock, register_export
from mlvl_fairseq.networks.dual_encoder import DualEncoderNetwork
from mlvl_fairseq.networks.dual_encoder_files import read_whole, write_merged

CHECKPOINT = "checkpoint.pt"


@register_export("checkpoint", "a checkpoint of ours with all its weights, frozen ones and LoRA's merged in")
class Checkpoint(Export):
    programs = ("mlvl_fairseq",)
    library_name = "mlvl_fairseq"

    def fits(self, encoder) -> Optional[str]:
        if encoder.family == "clip" or isinstance(encoder.network, DualEncoderNetwork):
            return None
        return f"a {encoder.family} is made of several files, which are whole each"

    def write(self, encoder, folder: Path) -> None:
        source = WeightSource(encoder.source)
        if encoder.family == "clip":
            write_whole_clip(source, folder / CHECKPOINT, **self.frozen)
            return
        whole = read_whole(source, encoder.family, **self.frozen)
        write_merged(whole, folder / CHECKPOINT)
        if isinstance(whole.tokenizer, SentencePieceTokenizer):
            whole.tokenizer.save(folder)

    def load(self, folder: Path, program: str) -> Stock:
        from mlvl_fairseq.inference import Encoder

        encoder, lang = Encoder.load(folder / CHECKPOINT), self.options.lang

        def pixels(batch):
            import torch

            if encoder.network.preprocess is None:
                return encoder.encode_features(batch)
            return encoder.encode_images(torch.from_numpy(batch))

        return Stock(
            lambda captions: encoder.encode_texts(captions, lang),
            pixels,
            tokens=lambda captions: encoder.tokenize(captions, lang),
        )

    def example(self, encoder, folder: Path) -> str:
        lines = f"""\
from mlvl_fairseq.inference import Encoder

encoder = Encoder.load("{folder.name}/{CHECKPOINT}")
texts = encoder.encode_texts(CAPTIONS)"""
        if encoder.network.preprocess is None:
            return lines
        return f'{lines}\nimages = encoder.encode_image_files("FOLDER", NAMES)'

    def notes(self, encoder) -> List[str]:
        return ["`--checkpoint`, `--teacher` and `--init-from` of all commands take it."]
