"""Folders of sentence-transformers: loaded, and written module by module."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import torch

from mlvl_fairseq.checkpoints.archive import save_safetensors
from mlvl_fairseq.export.base import Stock
from mlvl_fairseq.export.towers import POOLED, StockTower
from mlvl_fairseq.files import write_json

MODULES = "sentence_transformers"
ROUTER = f"{MODULES}.base.modules.router.Router"
TRANSFORMER = f"{MODULES}.base.modules.transformer.Transformer"
POOLING = f"{MODULES}.sentence_transformer.modules.pooling.Pooling"
DENSE = f"{MODULES}.base.modules.dense.Dense"


@dataclass(frozen=True)
class Route:
    """One side of a model.

    Attributes:
        tower: its transformer. last_token: the vector is the last token's state, whatever the tower's pooling.
        weight, bias: of the map behind it; None: there is none. write_inputs: writes tokenizer or preprocessing beside
            the transformer.
    """

    tower: StockTower
    write_inputs: Callable[[Path], None]
    weight: Optional[torch.Tensor] = None
    bias: Optional[torch.Tensor] = None
    last_token: bool = False


def by_sentence_transformers(folder: Path) -> Stock:
    """A folder by ``SentenceTransformer``."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")

    def encode(inputs):
        return model.encode(list(inputs), show_progress_bar=False)

    def tokens(captions):
        batch = model.preprocess(list(captions))
        return [ids[mask].tolist() for ids, mask in zip(batch["input_ids"], batch["attention_mask"].bool())]

    @torch.no_grad()
    def pixels(batch):
        given = {"pixel_values": torch.from_numpy(batch), "modality": "image"}
        return model(given)["sentence_embedding"].numpy()

    if "image" not in model.modalities:
        return Stock(encode, tokens=tokens)
    return Stock(encode, pixels, {"its own": encode}, tokens)


def write_router(folder: Path, routes: Dict[str, Route]) -> None:
    """Write ``text`` and ``image``, or one of them, as a folder that ``SentenceTransformer`` loads.

    Raises:
        DataError: a file cannot be written.
    """
    types: Dict[str, str] = {}
    structure: Dict[str, List[str]] = {}
    for modality, route in routes.items():
        modules = [(TRANSFORMER, _write_transformer), (POOLING, _write_pooling), (DENSE, _write_dense)]
        structure[modality] = []
        for number, (kind, write) in enumerate(modules):
            name = f"{modality}_{number}_{kind.rpartition('.')[2]}"
            if write(folder / name, modality, route):
                types[name] = kind
                structure[modality].append(name)
    first = next(iter(routes))
    mappings = {f"(None, '{modality}')": modality for modality in routes}
    parameters = {"default_route": first, "allow_empty_key": True, "route_mappings": mappings}
    write_json(folder / "router_config.json", {"types": types, "structure": structure, "parameters": parameters})
    write_json(folder / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": ROUTER}])
    about = {"model_type": "SentenceTransformer", "prompts": {}, "default_prompt_name": None}
    write_json(folder / "config_sentence_transformers.json", {**about, "similarity_fn_name": "cosine"})


def _write_transformer(folder: Path, modality: str, route: Route) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", {**route.tower.config, "dtype": "float32"})
    save_safetensors(route.tower.tensors, folder / "model.safetensors")
    route.write_inputs(folder)
    pooled = route.tower.pooling is None and not route.last_token
    output = {"method": "forward", "method_output_name": POOLED if pooled else "last_hidden_state"}
    config: Dict[str, Any] = {"transformer_task": "feature-extraction", "modality_config": {modality: output}}
    config["module_output_name"] = "sentence_embedding" if pooled else "token_embeddings"
    write_json(folder / "sentence_bert_config.json", config)
    return True


def _write_pooling(folder: Path, modality: str, route: Route) -> bool:
    pooling = "lasttoken" if route.last_token else route.tower.pooling
    if pooling is None:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    width = route.tower.config["hidden_size"]
    write_json(folder / "config.json", {"embedding_dimension": width, "pooling_mode": pooling, "include_prompt": True})
    return True


def _write_dense(folder: Path, modality: str, route: Route) -> bool:
    if route.weight is None:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    outputs, inputs = route.weight.shape
    tensors = {"linear.weight": route.weight}
    if route.bias is not None:
        tensors["linear.bias"] = route.bias
    save_safetensors(tensors, folder / "model.safetensors")
    names = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}
    sizes = {"in_features": inputs, "out_features": outputs, "bias": route.bias is not None}
    write_json(folder / "config.json", {**sizes, "activation_function": "torch.nn.modules.linear.Identity", **names})
    return True
