"""torch's compiler waits until somebody compiles, be all of the plugin imported; from then on it is kept away from
optimizers, as torch means it."""

CODE = """
import sys, torch
import mlvl_fairseq
import fairseq

mlvl_fairseq.register()
from torchvision.ops import roi_align  # as its transforms do
from mlvl_fairseq.modules.adapters import ADAPTERS, TowerShape, build_adapter

for kind in ADAPTERS:
    build_adapter(kind, None, TowerShape(16, 2, 16), ["en"])

parameter = torch.nn.Parameter(torch.ones(2))
optimizer = torch.optim.Optimizer([parameter], {"lr": 1.0})
optimizer.load_state_dict(optimizer.state_dict())
torch.sin(parameter).sum().backward()
optimizer.zero_grad()
assert parameter.grad is None and not {"torch._dynamo", "sympy"} & sys.modules.keys()

pixels, region = torch.arange(16.0).view(1, 1, 4, 4), torch.tensor([[0, 0.0, 0, 4, 4]])
assert roi_align(pixels, region, 1, aligned=True).item() == 7.5  # the mean
assert sys.modules["torchvision.ops.roi_align"].is_compile_supported("cpu")

assert "torch._dynamo" in sys.modules
parameter.grad = torch.ones(2)
optimizer.zero_grad()
assert parameter.grad is None
known = vars(torch.optim.Optimizer.zero_grad.__wrapped__)["__dynamo_disable"]
assert known.__module__.startswith("torch._dynamo"), known
"""


def test_the_compiler_is_imported_when_it_is_needed(run_alone):
    ended = run_alone("python", "-c", CODE)
    assert ended.returncode == 0, ended.stderr
