"""``--ddp-backend legacy_ddp`` slices the gradient of a module's only parameter, which a scalar does not allow: a
criterion that learns nothing but a temperature has such a one.

Breaks without it: ``fairseq-train ... --task cll_retrieval --criterion cll_clip --distributed-world-size 2
--ddp-backend legacy_ddp``.
"""

from mlvl_fairseq.fairseq_patches.patching import patches, wrap


@patches("fairseq.distributed.legacy_distributed_data_parallel")
def reduce_a_lone_scalar(module) -> None:
    def make(all_reduce_grads):
        def reduce(self):
            trained = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
            if len(trained) != 1 or trained[0].dim() > 0 or self.accumulate_grads:
                return all_reduce_grads(self)
            (scalar,) = trained
            if scalar.grad is None:
                scalar.grad = module.torch.zeros_like(scalar)
            scalar.grad.div_(self.world_size)
            module.utils.all_reduce(scalar.grad, self.process_group)

        return reduce

    wrap(module.LegacyDistributedDataParallel, "all_reduce_grads", make)
