"""What a pre-training step of CCLM costs: beside torchvision's Swin and transformers' layers with cross-attention.

A step is forward pass, loss, backward pass and AdamW; reading pictures and masking texts is not counted. Ours are
network `cclm`, criterion `cclm_pretraining` and optimizer `grouped_adamw`. Theirs are torchvision's SwinTransformer and
transformers' BertModel and BertEncoder, whose attention is torch's, too, composed as CCLM is published (Zeng et al.
2023): two passes of the fusion encoder for matching, which maps the states of views to keys and values in each pass;
all layers compute all positions, padding too; negatives are drawn one by one; logits of words for as many positions a
row as the batch's longest needs; torch's fused AdamW. Both have the same weights, no dropout and the same batches, in
turn; ratios are medians over steps, in CPU time. The losses of the first batch are compared where each row's negative
is the next one, for both.

`matching` is the fusion encoder, its head and the loss alone, on given states: all pairs in one pass without padding,
against two as published, and against two with keys and values once a view and the last layer at one position, but with
all padding. Memory is the largest that two steps take beside the model, each measured in a process
of its own.

transformers comes with the extra `interop`.

    python benchmarks/cclm_step.py                                  # small and base, one thread, many minutes
    python benchmarks/cclm_step.py --sizes small --steps 20
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Callable, Dict, List, NamedTuple, Tuple
from unittest.mock import patch

THREADS = sys.argv[sys.argv.index("--threads") + 1] if "--threads" in sys.argv[:-1] else "1"
os.environ["OMP_NUM_THREADS"] = THREADS

import numpy as np  # noqa: E402  (after the number of threads is set)
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn.utils.rnn import pad_sequence  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from training_steps import Trainee, against, memory_of, steps_in_turn  # noqa: E402

from mlvl_fairseq.criterions.cclm import CclmPretrainingConfig, CclmPretrainingCriterion  # noqa: E402
from mlvl_fairseq.data.masking import Masking  # noqa: E402
from mlvl_fairseq.modules import hard_negatives, packing  # noqa: E402
from mlvl_fairseq.modules.hard_negatives import FLOOR, Rows, draw_negatives  # noqa: E402
from mlvl_fairseq.modules.heads import MlpHead  # noqa: E402
from mlvl_fairseq.modules.towers.cclm_text import CclmTextConfig  # noqa: E402
from mlvl_fairseq.modules.towers.swin import SwinConfig  # noqa: E402
from mlvl_fairseq.networks.base import Encoded  # noqa: E402
from mlvl_fairseq.networks.cclm import CclmNetwork, View  # noqa: E402
from mlvl_fairseq.optim.grouped_adamw import FairseqGroupedAdamW, GroupedAdamWConfig  # noqa: E402

PARTS = ("image", "text", MATCHING := "matching")
EMBED_DIM, LR, BEGIN, PAD, END, FIRST_PIECE = 256, 1e-4, 0, 1, 2, 4


class Size(NamedTuple):
    """Towers, of one width as published, and a batch: its rows, and the mean length of texts that are beside images and
    beside texts."""

    image: SwinConfig
    text: CclmTextConfig
    rows: int
    caption: int = 16
    sentence: int = 28


def text_config(vocab_size: int, width: int, heads: int, layers: int) -> CclmTextConfig:
    dropout = {"dropout": 0.0, "attention_dropout": 0.0}
    return CclmTextConfig(vocab_size, width, layers, heads, max_positions=80, **dropout)


SIZES = {
    "tiny": Size(SwinConfig(32, width=8, layers=(1, 1), heads=(1, 2), window=4), text_config(500, 16, 2, 2), 8),
    "nano": Size(
        SwinConfig(64, width=32, layers=(2, 2, 2), heads=(1, 2, 4), window=4), text_config(2000, 128, 4, 3), 32, 12, 14
    ),
    "small": Size(SwinConfig(96, width=32, heads=(1, 2, 4, 8), window=3), text_config(8000, 256, 4, 6), 32),
    "base": Size(SwinConfig(), text_config(32_000, 768, 12, 6), 8),
}


def network_of(size: Size, heads: str = "matching,masked_lm") -> CclmNetwork:
    torch.manual_seed(0)
    return CclmNetwork(size.image.build(), size.text.build(), EMBED_DIM, size.text.layers, heads=heads).train()


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    cfg = GroupedAdamWConfig(lr=[LR])
    FairseqGroupedAdamW.name_parameters(cfg, model.named_parameters())
    return FairseqGroupedAdamW(cfg, list(model.parameters())).optimizer


def ours(size: Size) -> Trainee:
    network = network_of(size)
    criterion = CclmPretrainingCriterion(CclmPretrainingConfig(), SimpleNamespace(streams=[])).train()

    def loss(batch: Dict) -> Tensor:
        total, rows, _ = criterion(network, batch)
        return total / rows

    return Trainee(network, loss, optimizer_of(network))


class Theirs(nn.Module):
    """torchvision's and transformers' modules, projections, heads and a temperature; :meth:`forward` is the loss."""

    def __init__(self, size: Size):
        from torchvision.models.swin_transformer import SwinTransformer
        from transformers import BertModel
        from transformers.models.bert.modeling_bert import BertEncoder

        super().__init__()
        image, width = size.image, size.text.width
        sizes = [image.patch_size] * 2, image.width, list(image.layers), list(image.heads), [image.window] * 2
        self.image = SwinTransformer(*sizes, stochastic_depth_prob=0.0, num_classes=1)
        self.image.head = nn.Identity()
        config = self.config(size.text)
        self.text = BertModel(config, add_pooling_layer=False)
        self.fusion = BertEncoder(self.config(size.text, is_decoder=True, add_cross_attention=True))
        self.vision_proj, self.text_proj = nn.Linear(width, EMBED_DIM), nn.Linear(width, EMBED_DIM)
        self.temp, self.draw = nn.Parameter(torch.tensor(0.07)), partial(torch.multinomial, num_samples=1)
        self.itm_head = MlpHead(width, 2)
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width, eps=1e-5))
        self.bias = nn.Parameter(torch.zeros(size.text.vocab_size))

    @staticmethod
    def config(text: CclmTextConfig, **more):
        from transformers import BertConfig

        return BertConfig(
            vocab_size=text.vocab_size,
            hidden_size=text.width,
            num_hidden_layers=text.layers,
            num_attention_heads=text.heads,
            intermediate_size=text.ffn_width,
            max_position_embeddings=text.max_positions,
            type_vocab_size=1,
            pad_token_id=PAD,
            layer_norm_eps=text.norm_eps,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            attn_implementation="sdpa",
            **more,
        )

    def load(self, weights: Dict[str, Tensor]) -> None:
        """Ours, by the names that they have here. Raises RuntimeError: they do not fit."""
        names = {"visual_encoder.": "image.", "text_encoder.": "text.", "lm_head.bias": "bias"}
        names.update({"lm_head.dense": "transform.0", "lm_head.LayerNorm": "transform.2"})
        renamed = {}
        for name, value in weights.items():
            for old, new in names.items():
                name = name.replace(old, new)
            renamed[name] = value
        self.load_state_dict(renamed)

    def read(self, tokens: Tensor) -> Tuple[Tensor, Tensor]:
        mask = tokens != PAD
        return self.text(tokens, attention_mask=mask.long()).last_hidden_state, mask

    def see(self, images: Tensor) -> Tuple[Tensor, Tensor]:
        grid = self.image.norm(self.image.features(images)).flatten(1, 2)
        return torch.cat([grid.mean(1, keepdim=True), grid], 1), grid.new_ones(grid.shape[0], 1 + grid.shape[1]).bool()

    def fuse(self, states: Tensor, mask: Tensor, view: Tensor, view_mask: Tensor) -> Tensor:
        masks = mask[:, None, None], view_mask[:, None, None]
        return self.fusion(states, masks[0], view, masks[1], use_cache=False).last_hidden_state

    def forward(self, batch: Dict) -> Tensor:
        given = batch["net_input"]
        text, mask = self.read(given["tokens"])
        of_texts = "view_tokens" in given
        view, view_mask = self.read(given["view_tokens"]) if of_texts else self.see(given["images"])
        projection = self.text_proj if of_texts else self.vision_proj
        v, t = (F.normalize(x, dim=-1) for x in (projection(view[:, 0]), self.text_proj(text[:, 0])))
        logits, own = v @ t.t() / self.temp, torch.arange(len(v))
        contrast = (F.cross_entropy(logits, own) + F.cross_entropy(logits.t(), own)) / 2
        matching = self.match(text, mask, view, view_mask, logits)
        hidden, hidden_mask = self.read(given["masked_tokens"])
        beside = (text, mask) if of_texts else (view, view_mask)
        fused = self.fuse(hidden, hidden_mask, *beside)
        at = given["masked_positions"].unsqueeze(-1).expand(-1, -1, fused.shape[-1])
        words = F.linear(self.transform(fused.gather(1, at)), self.text.embeddings.word_embeddings.weight, self.bias)
        return contrast + matching + F.cross_entropy(words.flatten(0, 1), batch["masked_ids"].flatten())

    def match(self, text: Tensor, mask: Tensor, view: Tensor, view_mask: Tensor, logits: Tensor) -> Tensor:
        with torch.no_grad():
            views = F.softmax(logits.t(), 1) + FLOOR
            texts = F.softmax(logits, 1) + FLOOR
            views.fill_diagonal_(0)
            texts.fill_diagonal_(0)
        view_rows = [self.draw(row).item() for row in views]
        text_rows = [self.draw(row).item() for row in texts]
        drawn = torch.stack([view[row] for row in view_rows]), torch.stack([view_mask[row] for row in view_rows])
        other = torch.stack([text[row] for row in text_rows]), torch.stack([mask[row] for row in text_rows])
        first = self.fuse(text, mask, view, view_mask)[:, 0]
        texts, masks = torch.cat([text, other[0]]), torch.cat([mask, other[1]])
        second = self.fuse(texts, masks, torch.cat([drawn[0], view]), torch.cat([drawn[1], view_mask]))[:, 0]
        return matching_loss(self.itm_head(torch.cat([first, second])))


def theirs(size: Size) -> Trainee:
    model = Theirs(size)
    model.load(network_of(size).state_dict())
    groups = [{"params": [value for value in model.parameters() if value.dim() > 1]}]
    groups.append({"params": [value for value in model.parameters() if value.dim() <= 1], "weight_decay": 0.0})
    return Trainee(model.train(), model, torch.optim.AdamW(groups, LR, weight_decay=0.02, fused=True))


def matching_loss(logits: Tensor) -> Tensor:
    labels = torch.zeros(len(logits), dtype=torch.long)
    labels[: len(logits) // 3] = 1
    return F.cross_entropy(logits, labels)


def in_one_pass(network: CclmNetwork, text: Encoded, view: View, ids: Tensor) -> Tensor:
    found = {}
    network._match_pairs(found, text, view, ids)
    return found["matching"]


def in_two_passes(network: CclmNetwork, text: Encoded, view: View, ids: Tensor, published: bool) -> Tensor:
    """`published`: keys and values anew for each pair, and all layers for all positions."""
    own, rows = Rows(text.vector, view.vector, ids), torch.arange(len(ids))
    drawn = draw_negatives(own, own, network.temperature, None)
    once = network.fusion.keys_values(view.states, view.mask, view.is_image)

    def scores(texts: Tensor, views: Tensor) -> Tensor:
        states, mask = text.states[texts], text.mask[texts]
        at = None if published else torch.zeros(len(texts), 1, dtype=torch.long)
        seen = network.fusion.keys_values(view.states[views], None, view.is_image) if published else once[views]
        with patch.object(packing, "GROUPED", ()):
            return network.itm_head(network.fusion(states, mask, seen, at)[:, 0])

    negatives = torch.cat([rows, drawn.texts]), torch.cat([drawn.images, rows])
    return torch.cat([scores(rows, rows), scores(*negatives)])


def matcher(size: Size, way: Callable[..., Tensor]) -> Trainee:
    """Of a network whose towers do not run."""
    network = network_of(size, "matching")
    trained = nn.ModuleDict({"fusion": network.fusion, "itm_head": network.itm_head})

    def loss(batch: Dict) -> Tensor:
        states = [batch[name].requires_grad_() for name in ("text", "view")]
        text = Encoded(states[0][:, 0], states[0], batch["mask"])
        return matching_loss(way(network, text, View(states[1][:, 0], states[1], None, True), batch["ids"]))

    return Trainee(trained, loss, optimizer_of(trained))


def lengths_of(rows: int, mean: int, rng: np.random.Generator) -> np.ndarray:
    drawn = rng.lognormal(0, 0.4, rows) * mean / 1.08  # the mean of the first factor is 1.08
    return drawn.astype(int).clip(4, 64)


def random_batch(stream: str, size: Size, seed: int) -> Dict:
    """As the task's collater makes it; texts of different lengths, padded to the longest."""
    rng, rows, last_piece = np.random.default_rng(seed), size.rows, size.text.vocab_size - 1
    masking = Masking(last_piece, last_piece + 1, (BEGIN, PAD, END, last_piece), most=20 if stream == "text" else 12)

    def texts() -> List[np.ndarray]:
        lengths = lengths_of(rows, size.sentence if stream == "text" else size.caption, rng)
        return [np.array([BEGIN, *rng.integers(FIRST_PIECE, last_piece, n - 2), END]) for n in lengths]

    def padded(parts, fill: int = PAD) -> Tensor:
        return pad_sequence([torch.as_tensor(part) for part in parts], batch_first=True, padding_value=fill)

    own, view = texts(), texts()
    masked = [masking(text, rng) for text in (view if stream == "text" else own)]
    given = {"tokens": padded(own), "eos_positions": torch.tensor([len(text) - 1 for text in own])}
    given.update(ids=torch.arange(rows), masked_tokens=padded([text.tokens for text in masked]))
    given["masked_positions"] = padded([text.positions for text in masked], 0)
    if stream == "text":
        given.update(view_tokens=padded(view), view_eos_positions=torch.tensor([len(text) - 1 for text in view]))
    else:
        side, generator = size.image.image_size, torch.Generator().manual_seed(seed)
        given["images"] = torch.randn(rows, 3, side, side, generator=generator)
    tokens = sum(map(len, own))
    batch = {"net_input": given, "masked_ids": padded([text.labels for text in masked], -100), "stream": stream}
    return {**batch, "id": torch.arange(rows), "nsentences": rows, "ntokens": tokens}


def random_states(size: Size, seed: int) -> Dict:
    """What towers would make of a batch of images and texts."""
    generator, lengths = (
        torch.Generator().manual_seed(seed),
        lengths_of(size.rows, size.caption, np.random.default_rng(seed)),
    )
    cells = size.image.image_size // size.image.patch_size // 2 ** (len(size.image.layers) - 1)
    shapes = {"text": int(lengths.max()), "view": 1 + cells**2}
    drawn = {name: torch.randn(size.rows, n, size.text.width, generator=generator) for name, n in shapes.items()}
    return {
        **drawn,
        "mask": torch.arange(shapes["text"]) < torch.tensor(lengths)[:, None],
        "ids": torch.arange(size.rows),
    }


def next_row(weights: Tensor, *_) -> Tensor:
    """What follows a row itself, whose weight is zero."""
    return (weights.argmin(-1) + 1) % weights.shape[-1]


def losses_apart(size: Size, batch: Dict) -> float:
    """Relative, with negatives that do not depend on rounding."""
    plain = theirs(size)
    plain.model.draw = next_row
    with patch.object(hard_negatives, "draw", next_row), torch.no_grad():
        own, other = ours(size).loss(batch).item(), plain.loss(batch).item()
    return abs(own - other) / other


def compare(name: str, args: argparse.Namespace) -> None:
    """Print the rows of a size: what is compared, seconds of both, ratio, MiB of both, ratio, first losses apart."""
    size, numbers = SIZES[name], range(args.steps + 1)
    size = size._replace(rows=args.batch_size or size.rows)
    for stream in [part for part in args.parts if part != MATCHING]:
        batches = [random_batch(stream, size, seed) for seed in numbers]
        makes = [in_precision(make, args) for make in (partial(ours, size), partial(theirs, size))]
        apart = losses_apart(size, batches[0])
        report(f"{name} | {stream}: ours, torchvision + transformers", makes, batches, f"{apart:.1e}")
    if MATCHING not in args.parts:
        return
    batches = [random_states(size, seed) for seed in numbers]
    two = {"two as published": True, "two passes": False}
    for name_of_two, published in two.items():
        passes = in_one_pass, partial(in_two_passes, published=published)
        makes = [in_precision(partial(matcher, size, way), args) for way in passes]
        report(f"{name} | matching: one pass, {name_of_two}", makes, batches, "")


def in_precision(make: Callable[[], Trainee], args: argparse.Namespace) -> Callable[[], Trainee]:
    return lambda: make()._replace(in_bfloat16=args.bf16)


def report(what: str, makes: List[Callable[[], Trainee]], batches: List[Dict], apart: str) -> None:
    memory = tuple(memory_of(make, batches[:2]) for make in makes)
    _, seconds = steps_in_turn([(make(), batches) for make in makes])
    print(f"| {what} | {against(*seconds, memory)} | {apart} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["small", "base"], help="default: small base")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    parser.add_argument("--batch-size", type=int, help="default: 32 (nano, small), 8 (base)")
    parser.add_argument("--steps", type=int, default=5, help="of each pair (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--bf16", action="store_true", help="products of both in bfloat16, as by --autocast bf16")
    args = parser.parse_args()
    try:
        import torchvision
        import transformers
    except ImportError:
        parser.error("transformers is missing: pip install 'mlvl_fairseq[interop]'")
    torch.set_num_threads(args.threads)
    print(f"{args.steps} steps, threads: {args.threads}; torchvision {torchvision.__version__},")
    print(f"transformers {transformers.__version__}, torch {torch.__version__}\n")
    print("| size | first, second | first, s | second, s | ratio | first, MiB | second, MiB | ratio | losses apart |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    for name in args.sizes:
        compare(name, args)


if __name__ == "__main__":
    main()
