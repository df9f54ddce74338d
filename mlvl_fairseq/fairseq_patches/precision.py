"""``--bf16`` works without a TPU; ``--fp16`` on a CPU, which fairseq cannot do, says so.

Breaks without it: ``fairseq-train ... --bf16``; ``fairseq-train ... --cpu --fp16``.
"""

import importlib.util

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.fairseq_patches.patching import patches, wrap


@patches("fairseq.options")
def bf16_without_tpu(module) -> None:
    """fairseq takes ``--bf16`` for ``--tpu`` and then stops for want of torch_xla."""

    def make(parse_args_and_arch):
        def parse(parser, input_args=None, parse_known=False, *args, **kwargs):
            parsed = parse_args_and_arch(parser, input_args, parse_known, *args, **kwargs)
            options = parsed[0] if parse_known else parsed
            if getattr(options, "bf16", False) and importlib.util.find_spec("torch_xla") is None:
                options.tpu = False
            return parsed

        return parse

    wrap(module, "parse_args_and_arch", make)


@patches("fairseq.optim.fp16_optimizer")
def fp16_needs_gpu(module) -> None:
    """fairseq keeps the flat fp32 copy per CUDA device and reports overflows through ``.cuda()``."""

    def make(build_optimizer):
        def build(cls, cfg, params, **kwargs):
            if cfg.common.fp16 and not any(parameter.is_cuda for parameter in params):
                raise UserError("--fp16 trains on GPUs only: leave it out on a CPU, or use --bf16")
            return build_optimizer(cls, cfg, params, **kwargs)

        return build

    for optimizer in (module.FP16Optimizer, module.MemoryEfficientFP16Optimizer):
        wrap(optimizer, "build_optimizer", make)
