"""Both sides as ONNX graphs, in the folder layout of immich."""

from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np

from mlvl_fairseq.errors import UserError, one_line
from mlvl_fairseq.export.base import Export, Stock, register_export
from mlvl_fairseq.export.graphs import ImageGraph, example_tokens, has_image_graph, text_graph
from mlvl_fairseq.export.pictures import PictureRecipe
from mlvl_fairseq.export.tokenizers import FAST, unfit_tokenizer, write_fast_tokenizer
from mlvl_fairseq.files import write_json
from mlvl_fairseq.modules.adapters.base import LanguageAdapter

GRAPH, CUTTING, PREPROCESSOR = "model.onnx", "preprocess_cfg.json", "preprocessor_config.json"
MAX_IN_ONE_FILE = 1 << 31  # bytes of a message of Protocol Buffers
TEXT, IMAGE, FEATURES, OUTPUT = "text", "image", "features", "vectors"


@register_export("onnx", "text and image graphs for onnxruntime, any batch and length; immich's folder layout")
class Onnx(Export):
    programs = ("onnxruntime",)
    needs = ("onnx", "onnxscript")
    library_name = "onnx"

    def fits(self, encoder) -> Optional[str]:
        adapter = getattr(encoder.network, "adapter", None)
        if isinstance(adapter, LanguageAdapter) and self.options.lang not in adapter.languages:
            known = ",".join(adapter.languages)
            return f"its text tower has an adapter for each language: give --lang with one of {known}"
        return unfit_tokenizer(encoder.tokenizer, self.options.lang)

    def write(self, encoder, folder: Path) -> None:
        import torch

        network, lang = encoder.network, self.options.lang
        textual, visual = folder / "textual", folder / "visual"
        textual.mkdir(exist_ok=True)
        length = torch.export.Dim("length", max=encoder.max_length)
        rows = torch.export.Dim("batch")
        shapes = {0: rows, 1: length}
        _record(text_graph(encoder, lang), example_tokens(encoder), TEXT, shapes, textual / GRAPH)
        write_fast_tokenizer(encoder.tokenizer.of_language(lang), textual, encoder.max_length)
        config: Dict[str, Any] = {"embed_dim": encoder.embed_dim, "text_cfg": {"context_length": encoder.max_length}}
        if has_image_graph(encoder):
            visual.mkdir(exist_ok=True)
            pictures = network.preprocess
            shape = (network.feature_dim,) if pictures is None else (3, pictures.size, pictures.size)
            name = FEATURES if pictures is None else IMAGE
            _record(ImageGraph(encoder).eval(), torch.zeros(2, *shape), name, {0: rows}, visual / GRAPH)
            if pictures is not None:
                config["vision_cfg"] = {"image_size": pictures.size}
                recipe = PictureRecipe.of(pictures)
                given = recipe.for_open_clip()
                write_json(visual / (PREPROCESSOR if given is None else CUTTING), given or recipe.for_transformers())
        write_json(folder / "config.json", config)

    def load(self, folder: Path, program: str) -> Stock:
        import onnxruntime
        from tokenizers import Tokenizer

        def session(part):
            return onnxruntime.InferenceSession(folder / part / GRAPH, providers=["CPUExecutionProvider"])

        tokenizer, text = Tokenizer.from_file(str(folder / "textual" / FAST)), session("textual")

        def tokens(captions):
            encodings = tokenizer.encode_batch(list(captions))
            return [[one for one, kept in zip(each.ids, each.attention_mask) if kept] for each in encodings]

        def texts(captions):
            batches = captions[:1], captions[1:]  # of any size and length
            ids = [[one.ids for one in tokenizer.encode_batch(list(batch))] for batch in batches if batch]
            return np.concatenate([text.run(None, {TEXT: np.array(batch, np.int32)})[0] for batch in ids])

        if not (folder / "visual" / GRAPH).exists():
            return Stock(texts, tokens=tokens)
        image = session("visual")
        name = image.get_inputs()[0].name
        return Stock(texts, lambda batch: image.run(None, {name: batch})[0], tokens=tokens)

    def example(self, encoder, folder: Path) -> str:
        lines = f"""\
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("{folder.name}/textual/{FAST}")
ids = np.array([one.ids for one in tokenizer.encode_batch(CAPTIONS)], dtype=np.int32)
texts = onnxruntime.InferenceSession("{folder.name}/textual/{GRAPH}").run(None, {{"{TEXT}": ids}})[0]"""
        if not has_image_graph(encoder):
            return lines
        if encoder.network.preprocess is None:
            return (
                lines
                + f"""

# given image features, float32 [B, {encoder.network.feature_dim}]
images = onnxruntime.InferenceSession("{folder.name}/visual/{GRAPH}").run(None, {{"{FEATURES}": FEATURES}})[0]"""
            )
        return (
            lines
            + f"""

# pictures, cut as visual/preprocess_cfg.json says: float32 [B, 3, {encoder.preprocess.size}, {encoder.preprocess.size}]
images = onnxruntime.InferenceSession("{folder.name}/visual/{GRAPH}").run(None, {{"{IMAGE}": PIXELS}})[0]"""
        )

    def notes(self, encoder) -> List[str]:
        said = ["`textual` and `visual` are what immich keeps in the folder of a model."]
        pictures = encoder.network.preprocess
        if pictures is not None and PictureRecipe.of(pictures).for_open_clip() is None:
            said.append(f"Pictures are cut as visual/{PREPROCESSOR} says, which immich does not.")
        return said


def _record(graph, example, name: str, shapes: Dict[int, Any], path: Path) -> None:
    """Raises UserError: something in the network cannot be recorded."""
    import torch

    size = sum(value.numel() * value.element_size() for value in graph.parameters())
    try:
        with torch.no_grad():
            program = torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                input_names=[name],
                output_names=[OUTPUT],
                dynamic_shapes=(shapes,),
                verbose=False,
            )
        program.save(path, external_data=size > MAX_IN_ONE_FILE)
    except Exception as error:  # of any type, as it comes from inside of the exporter
        raise UserError(f"{path}: {type(graph).__name__} cannot be recorded as ONNX: {one_line(error)}") from error
