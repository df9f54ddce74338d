"""``benchmarks/gpu.py`` without a GPU: that its steps train, that operations are counted right, and what it writes."""

import importlib.util
import json

import pytest
import torch
from torch import nn

WORKLOADS = [
    ("cll_retrieval", "ours"), ("cll_retrieval", "open_clip"), ("clip", "ours"), ("clip", "open_clip"),
    ("encode", "ours"), ("encode", "open_clip"), ("trikd", "ours"), ("mte_pretraining", "ours"), ("lilt", "ours"),
    ("cclm, images", "ours"), ("cclm, parallel text", "ours"),
]  # fmt: skip


@pytest.fixture(scope="module")
def gpu(root):
    spec = importlib.util.spec_from_file_location("gpu", root / "benchmarks" / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    import mlvl_fairseq

    mlvl_fairseq.register()
    return module


def make(gpu, name, whose):
    if whose == "open_clip":
        pytest.importorskip("open_clip")
    return gpu.WORKLOADS[name][whose](gpu.SIZES["tiny"], 4)


def test_everything_is_measured(gpu):
    assert [(name, whose) for name, ways in gpu.WORKLOADS.items() for whose in ways] == WORKLOADS


@pytest.mark.parametrize("name, whose", WORKLOADS)
def test_a_step_trains_what_has_gradients(gpu, name, whose):
    """Or encodes: then nothing changes."""
    work = make(gpu, name, whose)
    assert torch.isfinite(work.trainee.loss(dict(work.batch))).all()
    runner = gpu.Runner(work, "cpu", "fp32")
    before = {name: value.detach().clone() for name, value in runner.model.named_parameters()}
    assert runner.flops() > 0
    moved = [name for name, value in runner.model.named_parameters() if not torch.equal(value, before[name])]
    assert bool(moved) == (runner.optimizer is not None)
    frozen = {name for name, value in runner.model.named_parameters() if not value.requires_grad}
    assert not frozen & set(moved)


@pytest.mark.parametrize("name", ["cll_retrieval", "clip", "encode"])
def test_both_sides_have_towers_of_one_size(gpu, name):
    models = [make(gpu, name, whose).trainee.model for whose in gpu.WORKLOADS[name]]
    ours, theirs = (sum(value.numel() for value in model.parameters()) for model in models)
    assert ours == theirs


def test_operations_of_a_trained_perceptron(gpu):
    """2 a multiplication; forward, gradients of weights, and those of activations but the first layer's input."""
    rows, sizes = 6, (8, 16, 4)
    model = nn.Sequential(nn.Linear(*sizes[:2]), nn.ReLU(), nn.Linear(*sizes[1:]))
    trainee = gpu.Trainee(model, lambda batch: model(batch["x"]).mean(), torch.optim.SGD(model.parameters(), 0.1))
    runner = gpu.Runner(gpu.Work(trainee, {"x": torch.randn(rows, 8)}, rows), "cpu", "fp32")
    assert runner.flops() == 2 * rows * (8 * 16 * 2 + 16 * 4 * 3)


def test_operations_of_a_vision_transformer(gpu):
    """Patches, then in each block four square maps, two of four times the width and two products of attention."""
    work = make(gpu, "encode", "open_clip")
    size = gpu.clip_training.dimensions("clip_tiny_vit")
    width, patches = size.vision_width, (size.image_size // size.patch_size) ** 2
    positions = patches + 1
    block = 2 * positions * width**2 * (4 + 2 * 4) + 2 * 2 * positions**2 * width
    expected = 2 * patches * 3 * size.patch_size**2 * width + size.vision_layers * block + 2 * width * size.embed_dim
    assert gpu.Runner(work, "cpu", "fp32").flops() == work.rows * expected


def test_rates_and_utilisation(gpu, monkeypatch):
    monkeypatch.setattr(gpu, "seconds_of", lambda step, device, times: [0.5, 0.25, 8.0])
    rate = gpu.matrix_rate("cpu", "fp32", 16, 3)
    assert rate == 2 * 16**3 / 0.5
    args = gpu.build_parser().parse_args(["--device", "cpu", "--steps", "3"])
    result = gpu.measure("encode", "ours", gpu.SIZES["tiny"], 4, "fp32", args, rate)
    flops = gpu.Runner(make(gpu, "encode", "ours"), "cpu", "fp32").flops()
    assert (result.steps_per_second, result.rows_per_second, result.peak_mib) == (2, 8, None)
    assert result.gflops == flops / 1e9 and result.utilisation == flops / 0.5 / rate


def test_the_table_and_the_file(gpu, monkeypatch, capsys, tmp_path):
    line = "gpu.py --device cpu --size tiny --types fp32 bf16 --steps 1 --workloads encode lilt --rows 2 3 "
    monkeypatch.setattr("sys.argv", [*line.split(), "--without-open-clip", "--json", str(tmp_path / "gpu.json")])
    gpu.main()
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    cells = [[cell.strip() for cell in line.split("|")[1:5]] for line in table[2:]]
    expected = [[name, "ours", kind, rows] for name in ("encode", "lilt") for rows in "23" for kind in ("fp32", "bf16")]
    assert cells == expected
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert written["card"] == "no GPU" and written["torch"] == torch.__version__
    found = [[row["workload"], row["whose"], row["type"], str(row["rows"])] for row in written["results"]]
    assert found == expected and all(row["steps_per_second"] > 0 < row["gflops"] for row in written["results"])


def test_without_a_gpu_it_says_so(gpu, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gpu.py"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="2"):
        gpu.main()
    assert "no GPU that torch can use" in capsys.readouterr().err
