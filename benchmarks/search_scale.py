"""Search in many vectors: what an index of each engine takes, what it finds of the exact best, how long a query waits.

Vectors are made of real ones (--features, an .npy of image features): brought to --dim dimensions by their principal
components, without some rows which are the queries, and copied with noise until there are --vectors (cosine of a copy
with its original: about 0.8). They are stored as `mlvl-search index --dtype float16` stores them, and searched as
`mlvl-search` searches: candidates of an engine, ranked exactly from the stored vectors. Reading and encoding pictures
and words is not in these numbers.

Recall: the share of the exact ten best that an engine finds. Latency: of one query, asked by so many clients at once in
one process; on a machine that is shared, CPU time says more. Memory: at most beside what there was before; pages of
stored vectors that were read count, though the system can take them back ("of its own" are the others, at the end).

    python benchmarks/search_scale.py WORK --features train.npy --vectors 1000000
"""

import argparse
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from peak_memory import measure  # noqa: E402

from mlvl_fairseq.data.features import FeatureWriter  # noqa: E402
from mlvl_fairseq.evaluation.report.tables import markdown_table  # noqa: E402
from mlvl_fairseq.search.engines import ENGINES, faiss_ivf, rank_exactly  # noqa: E402
from mlvl_fairseq.search.folder import as_float32, open_index  # noqa: E402
from mlvl_fairseq.search.manifest import IndexManifest, PartEntry, SourceEntry, manifest_path, write_manifest  # noqa: E402

QUERIES, K, PART, CLIENTS, PROBES = 200, 10, 65_536, (1, 16), (16, 32, 64, 128, 256)
NOISE = 0.75  # length of what is added to a vector of length 1
FINGERPRINT = "0" * 64


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def originals(path: str, dim: int) -> Tuple[np.ndarray, np.ndarray]:
    """Queries and originals, float32 [n, dim], of length 1."""
    features = np.load(path).astype(np.float32)
    features = unit(features) - unit(features).mean(axis=0)
    axes = np.linalg.eigh(features.T @ features)[1][:, ::-1][:, :dim]
    rows = np.random.default_rng(0).permutation(unit(features @ axes))
    return rows[:QUERIES], rows[QUERIES:]


def copies(rows: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """`count` noisy copies, a part at a time."""
    rng = np.random.default_rng(1)
    for start in range(0, count, PART):
        own = rows[(start + np.arange(min(PART, count - start))) % len(rows)]
        noise = rng.standard_normal(own.shape, np.float32)
        yield unit(own + NOISE / np.sqrt(own.shape[1]) * noise).astype(np.float16)


def write_index(folder: Path, rows: np.ndarray, count: int) -> None:
    """An index folder of vectors without pictures."""
    manifest = IndexManifest("none", FINGERPRINT, rows.shape[1], "float16", id="scale")
    manifest.sources.append(SourceEntry("folder", "/nowhere"))
    for number, vectors in enumerate(copies(rows, count)):
        part = PartEntry(f"{number:06d}", 0, len(vectors))
        own = folder / "parts" / part.name
        own.mkdir(parents=True)
        names = [f"{row}.jpg" for row in range(len(vectors))]
        with FeatureWriter(own / "vectors", names, rows.shape[1], "none", FINGERPRINT, "float16") as writer:
            writer.write(vectors)
        manifest.parts.append(part)
    write_manifest(folder, manifest)


def build(folder: Path, name: str, start) -> Tuple[float, float, float]:
    """Seconds, and seconds of CPU time, that the engine's own files take; and CPU seconds of these that making groups
    takes, before anything is put into them."""
    index, groups = open_index(folder, verify=False), [0.0]

    def timed(index, make=faiss_ivf.made_groups):
        began = time.process_time()
        made = make(index)
        groups[0] = time.process_time() - began
        return made

    faiss_ivf.made_groups = timed
    start()
    began, computed = time.perf_counter(), time.process_time()
    ENGINES[name].prepare(index)
    return time.perf_counter() - began, time.process_time() - computed, groups[0]


def ask(folder: Path, name: str, queries: np.ndarray, start) -> Dict[str, object]:
    """What the engine finds, and how long that takes."""
    index = open_index(folder, verify=False)
    before = _own_mib()
    start()
    began = time.perf_counter()
    engine = ENGINES[name](index)
    opened = time.perf_counter() - began

    def one(query: np.ndarray) -> Tuple[List[int], float]:
        began = time.perf_counter()
        best = rank_exactly(index, query[None], engine.candidates(query[None], K), K)[0]
        return best.indices[0].tolist(), time.perf_counter() - began

    one(queries[0])
    result: Dict[str, object] = {"opened": opened, "own": _own_mib() - before}
    for clients in CLIENTS:
        asked = queries if name != "exact" else queries[: max(4 * clients, 2_000_000 // len(index))]
        began, computed = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(clients) as pool:
            answers = list(pool.map(one, asked))
        waits = 1000 * np.array([seconds for _, seconds in answers])
        rate = len(asked) / (time.perf_counter() - began)
        result[f"cpu {clients}"] = 1000 * (time.process_time() - computed) / len(asked)
        result[f"{clients}"] = [float(np.median(waits)), float(np.quantile(waits, 0.95)), rate]
    if name == "faiss_ivf":
        result["probes"] = {probes: _with_probes(engine, probes, one, queries) for probes in PROBES}
    result["found"] = [one(query)[0] for query in queries] if name != "exact" else exact(index, queries)
    return result


def _with_probes(engine, probes: int, one, queries: np.ndarray) -> Tuple[List[List[int]], float]:
    """What is found in so many groups, and the median of milliseconds a query."""
    before, engine._parameters.nprobe = engine._parameters.nprobe, probes
    answers = [one(query) for query in queries]
    engine._parameters.nprobe = before
    return [rows for rows, _ in answers], float(1000 * np.median([seconds for _, seconds in answers]))


def exact(index, queries: np.ndarray) -> List[List[int]]:
    """The best of all queries, asked together."""
    rows = ENGINES["exact"](index).candidates(queries, K)
    return [best.indices[0].tolist() for best in rank_exactly(index, queries, rows, K)]


def _own_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


def recall_of(found: List[List[int]], truth: List[List[int]]) -> float:
    return float(np.mean([len(set(a) & set(b)) / K for a, b in zip(found, truth)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for the vectors; kept, and used again")
    parser.add_argument("--features", required=True, help=".npy of real image features")
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--engines", nargs="+", default=["exact", "faiss_half", "faiss_ivf"])
    args = parser.parse_args()
    queries, rows = originals(args.features, args.dim)
    as_float32(np.zeros((1, 1), np.float16))  # what engines load with the first vector is in no engine's memory
    folder = args.work / f"{args.vectors}x{args.dim}"
    if not manifest_path(folder).exists():
        write_index(folder, rows, args.vectors)
    truth, table, probes, loads = None, [], [], [os.getloadavg()[0]]
    for name in args.engines:
        built = measure(partial(build, folder, name))
        asked = measure(partial(ask, folder, name, queries))
        found = asked.result.pop("found")
        loads.append(os.getloadavg()[0])
        truth = truth or found
        recall = recall_of(found, truth)
        for groups, (rows_found, milliseconds) in asked.result.pop("probes", {}).items():
            probes.append([str(groups), f"{recall_of(rows_found, truth):.3f}", f"{milliseconds:.1f}"])
        files = sum(path.stat().st_size for path in (folder / "engines").glob(f"{name}*")) / 2**20
        print(json.dumps({"engine": name, "built": built, "asked": asked, "recall": recall}), file=sys.stderr)
        cpu = " / ".join(f"{asked.result[f'cpu {n}']:.1f}" for n in CLIENTS)
        waits = [f"{asked.result[f'{n}'][0]:.1f} / {asked.result[f'{n}'][1]:.1f}" for n in CLIENTS]
        rates = [f"{asked.result[f'{n}'][2]:.0f}" for n in CLIENTS]
        seconds = f"{built.result[0]:.0f} ({built.result[1]:.0f}, {built.result[2]:.0f})"
        cells = [name, seconds, f"{built.extra_mib:.0f}", f"{files:.0f}"]
        cells += [f"{asked.result['opened']:.1f}"]
        cells += [f"{asked.extra_mib:.0f}", f"{asked.result['own']:.0f}", f"{recall:.3f}", cpu]
        table.append([*cells, *waits, *rates])
    heads = ["engine", "build s (CPU, groups)", "build MiB", "files MiB", "open s", "search MiB", "of its own"]
    heads += ["recall@10", f"CPU ms a query, {' / '.join(map(str, CLIENTS))} clients"]
    heads += [f"ms, {clients} clients (median / 95 %)" for clients in CLIENTS]
    load = " to ".join(f"{one:.0f}" for one in (min(loads), max(loads)))
    print(
        f"{args.vectors:,} vectors of {args.dim} dimensions, {QUERIES} queries; load {load} on {os.cpu_count()} cores\n"
    )
    print(markdown_table([*heads, *(f"queries/s, {clients}" for clients in CLIENTS)], table))
    if probes:
        print(f"\n{markdown_table(['groups searched', 'recall@10', 'ms, 1 client'], probes)}")


if __name__ == "__main__":
    main()
