"""torch's compiler waits until somebody compiles; from then on it is kept away from optimizers, as torch means it."""

CODE = """
import sys, torch
import mlvl_fairseq

parameter = torch.nn.Parameter(torch.ones(2))
optimizer = torch.optim.Optimizer([parameter], {"lr": 1.0})
optimizer.load_state_dict(optimizer.state_dict())
torch.sin(parameter).sum().backward()
optimizer.zero_grad()
assert parameter.grad is None and "torch._dynamo" not in sys.modules

import torch._dynamo
parameter.grad = torch.ones(2)
optimizer.zero_grad()
assert parameter.grad is None
known = vars(torch.optim.Optimizer.zero_grad.__wrapped__)["__dynamo_disable"]
assert known.__module__.startswith("torch._dynamo"), known
"""


def test_the_compiler_is_imported_when_it_is_needed(run_alone):
    ended = run_alone("python", "-c", CODE)
    assert ended.returncode == 0, ended.stderr
