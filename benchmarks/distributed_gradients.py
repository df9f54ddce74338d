"""Are the gradients of several ranks those of one process with the whole batch?

For every mode of the contrastive losses: models of the tasks trikd and mte_pretraining get a batch that is cut unevenly
over two and three ranks (gloo, CPU), gradients are summed over ranks and divided by the summed sample sizes, as fairseq
does, and compared with those of one process. In one more column the last rank has no data: fairseq gives it a
batch that must not count. Figures are |difference| / |gradient of one process|, over all parameters together.

    python benchmarks/distributed_gradients.py
"""

import argparse
import itertools
import multiprocessing
import os
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Callable, Dict, List, NamedTuple, Sequence

os.environ["OMP_NUM_THREADS"] = "1"

import torch  # noqa: E402  (after the number of threads is set)
import torch.distributed as dist  # noqa: E402
from fairseq.data import Dictionary  # noqa: E402
from torch import Tensor, nn  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from mlvl_fairseq.criterions.mte import MteCriterion, MteCriterionConfig  # noqa: E402
from mlvl_fairseq.criterions.trikd import TrikdCriterion, TrikdCriterionConfig  # noqa: E402
from mlvl_fairseq.losses import POSITIVES  # noqa: E402
from mlvl_fairseq.models.mte import MteConfig, MteModel  # noqa: E402
from mlvl_fairseq.models.trikd import TrikdModel  # noqa: E402
from mlvl_fairseq.modules.x_projector import CProjector, XProjector  # noqa: E402

ROWS, LENGTH, WIDTH, CLIP_DIM, VOCABULARY = 24, 6, 32, 16, 100
CUTS = {"2 ranks": (17, 7), "3 ranks": (3, 15, 6), "2 ranks, one without data": (24,)}
Batch = Dict[str, object]


class Mode(NamedTuple):
    """A row of the table: a model, its criterion, and a batch made of rows of the whole one."""

    name: str
    model: Callable[[], nn.Module]
    criterion: Callable[[], nn.Module]
    batch: Callable[[slice], Batch]


def trikd_model() -> nn.Module:
    return TrikdModel(XProjector(WIDTH, 2 * WIDTH, 4, 2, 0.0, 0.0), CProjector(CLIP_DIM, WIDTH))


def trikd_batch(rows: slice) -> Batch:
    generator = torch.Generator().manual_seed(1)
    drawn = [torch.randn(*size, generator=generator) for size in ((ROWS, LENGTH, WIDTH), (2, ROWS, CLIP_DIM))]
    states, (image, english) = drawn[0][rows], drawn[1][:, rows]
    count = len(states)
    lengths = torch.full((count,), LENGTH - 1)
    return {
        "id": torch.arange(ROWS)[rows],
        "net_input": {
            "tokens": torch.full((count, LENGTH), 5),
            "eos_positions": lengths,
            "states": states,
        },
        "image_features": image,
        "text_features": english,
        "image_ids": (torch.arange(ROWS) // 2 % 7)[rows],
        "lang_ids": (torch.arange(ROWS) % 3)[rows],
        "has_english": (torch.arange(ROWS) % 4 > 0)[rows],
        "nsentences": count,
        "ntokens": count * LENGTH,
    }


def trikd_mode(name: str, **options) -> Mode:
    task = Namespace(langs=["en", "de", "fr"], corpus=Namespace(source_lang="en"))
    return Mode(
        f"trikd, {name}", trikd_model, lambda: TrikdCriterion(TrikdCriterionConfig(**options), task), trikd_batch
    )


def mte_model(**options) -> nn.Module:
    dictionary = Dictionary()
    for number in range(VOCABULARY - 4):
        dictionary.add_symbol(f"w{number}")
    sizes = {"embed_dim": WIDTH, "ffn_embed_dim": 2 * WIDTH, "attention_heads": 4, "layers": 2}
    config = MteConfig(
        encoder_from_scratch=True,
        train_encoder="all",
        max_source_positions=20,
        max_target_positions=20,
        **{name: 0.0 for name in ("dropout", "attention_dropout")},
        **{f"encoder_{name}": size for name, size in sizes.items()},
        **{f"decoder_{name}": size for name, size in sizes.items() if name != "embed_dim"},
        **options,
    )
    return MteModel.build_model(config, Namespace(source_dictionary=dictionary, languages=["de", "en"]))


def mte_batch(rows: slice) -> Batch:
    generator = torch.Generator().manual_seed(1)
    source, target = torch.randint(4, VOCABULARY, (2, ROWS, LENGTH), generator=generator)
    source, target = source[rows], target[rows]
    source[:, 0], target[:, -1] = 0, 2
    return {
        "id": torch.arange(ROWS)[rows],
        "target": target,
        "net_input": {
            "src_tokens": source,
            "src_lengths": torch.full((len(source),), LENGTH),
            "prev_output_tokens": target.roll(1, 1),
            "target_lang": 2,
        },
        "nsentences": len(source),
        "ntokens": target.numel(),
    }


def mte_mode(name: str, encode_chunk: int = 0, **options) -> Mode:
    return Mode(
        f"mte, {name}",
        lambda: mte_model(encode_chunk=encode_chunk),
        lambda: MteCriterion(MteCriterionConfig(**options), SimpleNamespace(language_id=None)),
        mte_batch,
    )


MODES = [
    *(trikd_mode(f"positives {name}", positives=name) for name in sorted(POSITIVES)),
    trikd_mode("ITC only", loss_type="nott"),
    trikd_mode("TTC only", loss_type="noit"),
    trikd_mode("TTC of other languages against images", non_english_ttc="image"),
    trikd_mode("TTC of English only", non_english_ttc="none"),
    trikd_mode("local negatives: another objective, to compare with", negatives="local"),
    mte_mode("translation only", contrastive_lambda=0.0),
    mte_mode("translation and contrast"),
    mte_mode("source pooled after its projection", contrastive_source="projected"),
    mte_mode("two pairs encoded at a time", encode_chunk=2),
]


def gradient(mode: Mode, batch: Batch, counts: bool, total: Callable[[Tensor], Tensor]) -> Tensor:
    """All gradients in one vector, `total` of them divided by `total` of the sample sizes."""
    torch.manual_seed(0)
    model = mode.model().train()
    loss, size, _ = mode.criterion().train()(model, batch)
    (loss * counts).backward()
    every = [value.grad for value in model.parameters() if value.requires_grad]
    flat = torch.cat([grad.flatten() for grad in every if grad is not None])
    return total(flat) / total(torch.tensor(float(size * counts)))


def summed(tensor: Tensor) -> Tensor:
    dist.all_reduce(tensor)
    return tensor


def run_rank(rank: int, ranks: int, cut: Sequence[int], folder: str) -> None:
    """Write one rank's view of the gradients of all modes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=ranks)
    ends = [0, *itertools.accumulate(cut)]
    counts = rank < len(cut)
    rows = slice(ends[rank], ends[rank + 1]) if counts else slice(0, 5)  # a batch that it has had before
    dummy = {} if counts else {"counts": torch.zeros(5, dtype=torch.bool)}
    found = [gradient(mode, {**mode.batch(rows), **dummy}, counts, summed) for mode in MODES]
    if rank == 0:
        torch.save(found, f"{folder}/gradients.pt")
    dist.destroy_process_group()


def on_ranks(ranks: int, cut: Sequence[int]) -> List[Tensor]:
    fork = multiprocessing.get_context("fork")  # has imported everything already
    with tempfile.TemporaryDirectory() as folder:
        processes = [fork.Process(target=run_rank, args=(rank, ranks, cut, folder)) for rank in range(ranks)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            sys.exit("a rank has failed")
        return torch.load(Path(folder) / "gradients.pt", weights_only=True)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    whole = [gradient(mode, mode.batch(slice(None)), True, lambda tensor: tensor) for mode in MODES]
    columns = [on_ranks(int(name[0]), cut) for name, cut in CUTS.items()]
    print(f"{ROWS} rows, cut into {', '.join(str(list(cut)) for cut in CUTS.values())}; torch {torch.__version__}\n")
    print(f"| | {' | '.join(CUTS)} |\n|---|{'---:|' * len(CUTS)}")
    for mode, own, *others in zip(MODES, whole, *columns):
        apart = [f"{float((other - own).norm() / own.norm()):.1e}" for other in others]
        print(f"| {mode.name} | {' | '.join(apart)} |")


if __name__ == "__main__":
    main()
