"""With ``--amp`` fairseq divides gradients by the loss scale twice: when it clips those of torch's optimizer, and when
it steps its own wrapper of that, which torch takes for an optimizer that it has not seen. Adam does not mind, but for
its epsilon, which is as many times too large: the scale doubles every 2000 updates, until no gradient is larger.

Breaks without it: ``fairseq-train ... --amp`` on a GPU.
"""

from mlvl_fairseq.fairseq_patches.patching import patches, wrap


@patches("fairseq.optim.amp_optimizer")
def unscale_once(module) -> None:
    def make(step):
        def step_what_was_clipped(self):
            self.scaler.step(self.optimizer)
            self.scaler.update()

        return step_what_was_clipped

    wrap(module.AMPOptimizer, "step", make)
