"""Files in the layout of LilT's published code, with random weights under the names that its networks have.

``fixtures/lilt/hydra_config.pth`` is one without tensors, written by torch.save around what ``compose`` of Hydra 1.1.1
and OmegaConf 2.1.1 gave for the overrides of the published ``pretrain_lilt.sh`` and ``+save_last_only=True``.
"""

import torch
from omegaconf import OmegaConf

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
DEFAULTS = {
    "version": 2, "train_file": ["pairs.json"], "image_res": 32, "embed_dim": 8, "batch_size": 128, "temp": 0.07,
    "optimizer": {"opt": "adamW", "lr": 1e-4, "weight_decay": 0.02}, "text_encoder": "tiny", "vision_encoder": "tiny",
    "pretrained_text": True, "pretrained_vision": True, "freeze_text_encoder": False, "freeze_vision_encoder": False,
    "freeze_proj": False, "unlock_layernorm": False, "unlock_dense": False, "unlock_attn": False,
    "unlock_random": False, "bitfit": False, "add_adapter": False, "adapter_append": False,
    "conventional_adapter": {"insert": False, "reduction_factor": 4},
    "always_freeze": {"visual_encoder": [], "text_encoder": []}, "fp16": False, "limit_num_samples": False,
    "model_config": {"import_path": "models.clip_adjustable.CLIP"}, "alpha": 0,
}  # fmt: skip
LWA = {"freeze_text_encoder": True, "freeze_vision_encoder": True, "unlock_layernorm": True}
LWA["conventional_adapter"] = {"insert": True, "reduction_factor": 4}
DA = {"freeze_text_encoder": True, "freeze_vision_encoder": True, "unlock_layernorm": True}
DA.update({"adapter_append": True, "add_adapter": True})


def config(**changes):
    """The configuration, as an object of OmegaConf."""
    return OmegaConf.create({**DEFAULTS, **changes})


def linear(name, inputs, outputs):
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def adapter(name, width, bottleneck):
    if not bottleneck:
        return {}
    return {**linear(f"{name}.down_sampler", width, bottleneck), **linear(f"{name}.up_sampler", bottleneck, width)}


def vit_shapes(width, blocks, rows, patch=16, scaled=False, bottleneck=0):
    shapes = {"cls_token": (1, 1, width), "pos_embed": (1, rows, width), **norm("norm", width)}
    shapes |= {"patch_embed.proj.weight": (width, 3, patch, patch), "patch_embed.proj.bias": (width,)}
    for block in (f"blocks.{i}" for i in range(blocks)):
        shapes |= {**norm(f"{block}.norm1", width), **norm(f"{block}.norm2", width)}
        shapes |= linear(f"{block}.attn.qkv", width, 3 * width) | linear(f"{block}.attn.proj", width, width)
        shapes |= linear(f"{block}.mlp.fc1", width, 4 * width) | linear(f"{block}.mlp.fc2", 4 * width, width)
        shapes |= {f"{block}.gamma_{i}": (width,) for i in (1, 2) if scaled}
        shapes |= adapter(f"{block}.adapter1", width, bottleneck) | adapter(f"{block}.adapter2", width, bottleneck)
    return {f"visual_encoder.{name}": shape for name, shape in shapes.items()}


def bert_shapes(width, layers, words, inner=None, positions=512, bottleneck=0):
    inner = inner or 4 * width
    shapes = {"embeddings.word_embeddings.weight": (words, width), **norm("embeddings.LayerNorm", width)}
    shapes |= {"embeddings.position_embeddings.weight": (positions, width)}
    for layer in (f"encoder.layer.{i}" for i in range(layers)):
        for part in ("query", "key", "value"):
            shapes |= linear(f"{layer}.attention.self.{part}", width, width)
        for output, inputs in ((f"{layer}.attention.output", width), (f"{layer}.output", inner)):
            shapes |= linear(f"{output}.dense", inputs, width) | norm(f"{output}.LayerNorm", width)
            shapes |= adapter(f"{output}.adapter", width, bottleneck)
        shapes |= linear(f"{layer}.intermediate.dense", width, inner)
    return {f"text_encoder.{name}": shape for name, shape in shapes.items()}


def head_shapes(image_width, text_width, dims):
    return {"temp": (), **linear("vision_proj", image_width, dims), **linear("text_proj", text_width, dims)}


def random_tensors(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(shape, generator=generator) * 0.02 for name, shape in shapes.items()}
    return {**tensors, "temp": torch.tensor(0.03)}


def without_numbers(shapes):
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def save(path, tensors, configuration=None, **changes):
    """A checkpoint of the last epoch. ``position_ids`` is a buffer of the text tower."""
    positions = len(tensors["text_encoder.embeddings.position_embeddings.weight"])
    buffer = {"text_encoder.embeddings.position_ids": torch.arange(positions)[None]}
    moments = {0: {"step": 5, "exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2)}}
    groups = [{"lr": 1e-5, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.02, "params": [0]}]
    content = {
        "model": {**tensors, **buffer},
        "optimizer": {"state": moments, "param_groups": groups},
        "lr_scheduler": {"base_values": [1e-4], "t_initial": 15, "metric": None},
        "config": configuration,
        "epoch": 14,
    }
    torch.save({name: part for name, part in {**content, **changes}.items() if part is not None}, path)
    return path


def vocabulary(folder, size, words=()):
    """A tokenizer's folder of so many tokens, `words` among them."""
    tokens = [*SPECIAL, *words]
    tokens += [f"unused{i}" for i in range(size - len(tokens))]
    (folder / "vocab.txt").write_text("\n".join(tokens[:size]) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}', encoding="utf-8")
    return folder
