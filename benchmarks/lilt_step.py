"""What an alignment step of LilT costs: beside the same towers of timm and transformers, beside full training, and with
the frozen image tower's vectors stored.

A step is forward pass, loss, backward pass and AdamW; reading and changing pictures is not counted. Ours are the
network and the criterion of image_text_retrieval, and optimizer `grouped_adamw`. Theirs are timm's VisionTransformer
and transformers' BertModel with adapters wrapped around their modules, as peft does it, projections, the loss in
three lines, and torch's fused AdamW. Both have the same weights, no dropout and the same batches, in turn; ratios are
medians over steps, in CPU time, and the first losses are compared. Memory is the largest that two steps take beside
the model: gradients, moments, activations; each is measured in a process of its own.

timm and transformers come with the extra `interop`.

    python benchmarks/lilt_step.py                                  # small and base, one thread, 15 minutes
    python benchmarks/lilt_step.py --sizes tiny --steps 10 --image-size 64
"""

import argparse
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Dict, List

THREADS = sys.argv[sys.argv.index("--threads") + 1] if "--threads" in sys.argv[:-1] else "1"
os.environ["OMP_NUM_THREADS"] = THREADS

import torch  # noqa: E402  (after the number of threads is set)
import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from training_steps import Trainee, against, memory_of, steps_in_turn  # noqa: E402

from mlvl_fairseq.criterions.clip_contrastive import ClipContrastiveConfig, ClipContrastiveCriterion  # noqa: E402
from mlvl_fairseq.modules.adapters.layerwise import LayerwiseAdapter  # noqa: E402
from mlvl_fairseq.modules.towers.bert import BertConfig  # noqa: E402
from mlvl_fairseq.modules.towers.features import FeaturesConfig  # noqa: E402
from mlvl_fairseq.modules.towers.vit import ViTConfig  # noqa: E402
from mlvl_fairseq.networks.dual_encoder import DualEncoderNetwork  # noqa: E402
from mlvl_fairseq.networks.freezing import freeze_parameters  # noqa: E402
from mlvl_fairseq.networks.peft import add_parts, rules_of_preset  # noqa: E402
from mlvl_fairseq.optim.grouped_adamw import FairseqGroupedAdamW, GroupedAdamWConfig  # noqa: E402

VOCABULARY, EMBED_DIM, LR = 30_522, 256, 1e-4
SIZES = {  # dimensions of the image tower (width, layers, heads) and of the text tower
    "tiny": ((192, 12, 3), (128, 2, 2)),
    "small": ((384, 12, 6), (512, 4, 8)),
    "base": ((768, 12, 12), (768, 12, 12)),
}
LILT, FULL, LIT = "lwa+ln", "full", "lit"


def configs(size: str, image_size: int) -> tuple:
    (width, layers, heads), text = SIZES[size]
    vit = ViTConfig(image_size, width=width, layers=layers, heads=heads)
    return vit, BertConfig(VOCABULARY, *text, dropout=0.0, attention_dropout=0.0)


def ours(size: str, image_size: int, preset: str, stored: bool = False) -> Trainee:
    """`stored`: the image tower's vectors are given."""
    torch.manual_seed(0)
    vit, bert = configs(size, image_size)
    network = DualEncoderNetwork((FeaturesConfig(vit.width) if stored else vit).build(), bert.build(), EMBED_DIM)
    options = SimpleNamespace(preset=preset, adapter_reduction=4, always_freeze_image="", always_freeze_text="")
    add_parts(network, options)
    freeze_parameters(network, rules_of_preset(network, options), f"--preset {preset}")
    criterion = ClipContrastiveCriterion(ClipContrastiveConfig(), SimpleNamespace(trains_image_tower=True)).train()
    cfg = GroupedAdamWConfig(lr=[LR])
    FairseqGroupedAdamW.name_parameters(cfg, network.named_parameters())
    optimizer = FairseqGroupedAdamW(cfg, [value for value in network.parameters() if value.requires_grad])

    def loss(batch: Dict) -> Tensor:
        total, rows, _ = criterion(network, batch)
        return total / rows

    return Trainee(network.train(), loss, optimizer.optimizer)


class AdaptedNorm(nn.Module):
    """An adapter before a normalisation layer, as it is wrapped around a module of another library."""

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.adapter, self.norm = LayerwiseAdapter(norm.normalized_shape[0]), norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.adapter(x))


class Theirs(nn.Module):
    """timm's and transformers' towers, projections and a temperature."""

    def __init__(self, size: str, image_size: int):
        from timm.models.vision_transformer import VisionTransformer
        from transformers import BertConfig as TheirConfig
        from transformers import BertModel

        super().__init__()
        vit, bert = configs(size, image_size)
        self.image = VisionTransformer(
            image_size, 16, num_classes=0, embed_dim=vit.width, depth=vit.layers, num_heads=vit.heads
        )
        config = TheirConfig(
            vocab_size=VOCABULARY,
            hidden_size=bert.width,
            num_hidden_layers=bert.layers,
            num_attention_heads=bert.heads,
            intermediate_size=bert.ffn_width,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.text = BertModel(config, add_pooling_layer=False)
        self.text.embeddings.token_type_embeddings.weight.data.zero_()
        self.text.embeddings.token_type_embeddings.weight.requires_grad = False  # ours has none
        self.vision_proj, self.text_proj = nn.Linear(vit.width, EMBED_DIM), nn.Linear(bert.width, EMBED_DIM)
        self.temp = nn.Parameter(torch.tensor(0.07))

    def align(self) -> None:
        """Freeze the towers, insert adapters and let them and the norms train."""
        for tower in (self.image, self.text):
            tower.requires_grad_(False)
        for block in self.image.blocks:
            block.norm1, block.norm2 = AdaptedNorm(block.norm1), AdaptedNorm(block.norm2)
        for layer in self.text.encoder.layer:
            for output in (layer.attention.output, layer.output):
                output.dropout = nn.Sequential(output.dropout, LayerwiseAdapter(output.dense.out_features))
        for name, parameter in self.named_parameters():
            if "norm" in name.lower() or "sampler" in name:
                parameter.requires_grad = True

    def load(self, weights: Dict[str, Tensor]) -> None:
        """Ours, by the names that they have here. Raises RuntimeError: they do not fit."""
        renamed = {}
        for name, value in weights.items():
            name = name.replace("visual_encoder.", "image.").replace("text_encoder.", "text.")
            name = name.replace("output.adapter.", "output.dropout.1.")
            if hasattr(self.image.blocks[0].norm1, "adapter"):
                for number in "12":
                    name = name.replace(f".norm{number}.", f".norm{number}.norm.")
                    name = name.replace(f".adapter{number}.", f".norm{number}.adapter.")
            renamed[name] = value
        missing, unexpected = self.load_state_dict(renamed, strict=False)
        others = [name for name in missing if "token_type" not in name and "position_ids" not in name]
        if others or unexpected:
            raise RuntimeError(f"missing {others}, unexpected {unexpected}")

    def forward(self, images: Tensor, tokens: Tensor, mask: Tensor) -> tuple:
        image = self.vision_proj(self.image(images))
        text = self.text_proj(self.text(tokens, attention_mask=mask).last_hidden_state[:, 0])
        return F.normalize(image, dim=-1), F.normalize(text, dim=-1)


def theirs(size: str, image_size: int, preset: str) -> Trainee:
    model = Theirs(size, image_size)
    if preset == LILT:
        model.align()
    model.load(ours(size, image_size, preset).model.state_dict())
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [{"params": [value for value in trained if value.dim() > 1]}]
    groups.append({"params": [value for value in trained if value.dim() <= 1], "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(groups, LR, weight_decay=0.02, fused=True)

    def loss(batch: Dict) -> Tensor:
        tokens, last = (batch["net_input"][name] for name in ("tokens", "eos_positions"))
        mask = (torch.arange(tokens.shape[1]) <= last[:, None]).long()
        image, text = model(batch["image_features"], tokens, mask)
        logits, own = image @ text.t() / model.temp.clamp(0.001, 0.5), torch.arange(len(image))
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.t(), own)) / 2

    return Trainee(model.train(), loss, optimizer)


def random_batch(args: argparse.Namespace, seed: int) -> Dict:
    """As the task's collater makes it; captions of different lengths, padded to the longest."""
    generator = torch.Generator().manual_seed(seed)
    rows = args.batch_size
    lengths = torch.empty(rows).log_normal_(0, 0.4, generator=generator) * args.mean_tokens / 1.08  # its mean is 1.08
    lengths = lengths.long().clamp(3, 60)
    tokens = torch.randint(1000, VOCABULARY, (rows, int(lengths.max())), generator=generator)
    tokens[torch.arange(tokens.shape[1]) >= lengths[:, None]] = 0
    return {
        "net_input": {"tokens": tokens, "eos_positions": lengths - 1},
        "image_features": torch.randn(rows, 3, args.image_size, args.image_size, generator=generator),
        "image_ids": torch.arange(rows),
        "nsentences": rows,
        "ntokens": int(lengths.sum()),
    }


def with_vectors(batch: Dict, width: int) -> Dict:
    """The batch with what is stored of its pictures."""
    generator = torch.Generator().manual_seed(len(batch["image_ids"]))
    return {**batch, "image_features": torch.randn(len(batch["image_ids"]), width, generator=generator)}


def compare(size: str, args: argparse.Namespace) -> List[str]:
    """The rows of a size: what is compared, seconds of both, ratio, MiB of both, ratio, first losses apart."""
    width, image_size = SIZES[size][0][0], args.image_size
    ways = {
        "ours": lambda: ours(size, image_size, LILT),
        "timm + transformers": lambda: theirs(size, image_size, LILT),
        "ours, full": lambda: ours(size, image_size, FULL),
        "timm + transformers, full": lambda: theirs(size, image_size, FULL),
        "ours, lit": lambda: ours(size, image_size, LIT),
        "ours, lit, stored": lambda: ours(size, image_size, LIT, stored=True),
    }
    pairs = [
        ("lwa+ln: ours, timm + transformers", "ours", "timm + transformers"),
        ("full: ours, timm + transformers", "ours, full", "timm + transformers, full"),
        ("ours: lwa+ln, full", "ours", "ours, full"),
        ("ours, lit: vectors stored, tower runs", "ours, lit, stored", "ours, lit"),
    ]
    batches = [random_batch(args, seed) for seed in range(args.steps + 1)]
    given = {way: [with_vectors(batch, width) for batch in batches] if "stored" in way else batches for way in ways}
    made = {way: lambda make=make: make()._replace(in_bfloat16=args.bf16) for way, make in ways.items()}
    memory = {way: memory_of(make, given[way][:2]) for way, make in made.items()}
    rows = []
    for name, first, second in pairs:
        trainees = [(made[way](), given[way]) for way in (first, second)]
        losses, seconds = steps_in_turn(trainees)
        apart = f"{abs(losses[0] - losses[1]) / losses[1]:.1e}" if "timm" in second else ""
        cells = against(*seconds, (memory[first], memory[second]))
        rows.append(f"| {size}/{size} | {name} | {cells} | {apart} |")
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["small", "base"], help="default: small base")
    parser.add_argument("--batch-size", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--image-size", type=int, default=256, help="default: %(default)s")
    parser.add_argument("--mean-tokens", type=int, default=13, help="of a caption (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=5, help="of each pair (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--bf16", action="store_true", help="products of both in bfloat16, as by --autocast bf16")
    args = parser.parse_args()
    try:
        import timm
        import transformers
    except ImportError:
        parser.error("timm and transformers are missing: pip install 'mlvl_fairseq[interop]'")
    torch.set_num_threads(args.threads)
    print(f"batch {args.batch_size}, {args.image_size} pixels, {args.steps} steps, threads: {args.threads};")
    print(f"timm {timm.__version__}, transformers {transformers.__version__}, torch {torch.__version__}\n")
    print("| towers | first, second | first, s | second, s | ratio | first, MiB | second, MiB | ratio | losses apart |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    for size in args.sizes:
        compare(size, args)


if __name__ == "__main__":
    main()
