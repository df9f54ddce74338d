"""fairseq builds an optimizer of parameters without names: one that treats them by their names cannot.

Breaks without it: ``fairseq-train ... --optimizer grouped_adamw``, which would decide by shapes alone.
"""

from itertools import chain

from mlvl_fairseq.fairseq_patches.patching import patches, wrap


@patches("fairseq.trainer")
def tell_names(module) -> None:
    def make(build):
        def name_and_build(trainer):
            optimizer = module.optim.OPTIMIZER_REGISTRY.get(getattr(trainer.cfg.optimizer, "_name", None))
            if hasattr(optimizer, "name_parameters"):
                parts = (trainer.get_model(), trainer.get_criterion())
                named = chain.from_iterable(part.named_parameters() for part in parts)
                optimizer.name_parameters(trainer.cfg.optimizer, named)
            build(trainer)

        return name_and_build

    wrap(module.Trainer, "_build_optimizer", make)
