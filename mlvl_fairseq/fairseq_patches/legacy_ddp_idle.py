"""``--ddp-backend legacy_ddp`` gives parameters that no rank has used in an update a gradient of zeros. Adam then moves
them on by its momentum and decays them, which it does not in one process, where they have no gradient.

Breaks without it: ``fairseq-train ... --task cclm_pretraining --distributed-world-size 2 --ddp-backend legacy_ddp``,
whose image tower has nothing to do at a batch of texts, is another training than that of one process.
"""

from mlvl_fairseq.fairseq_patches.patching import patches, wrap


@patches("fairseq.distributed.legacy_distributed_data_parallel")
def leave_idle_parameters_without_gradients(module) -> None:
    def make(all_reduce_grads):
        def reduce(self):
            trained = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
            if self.accumulate_grads or not trained:
                return all_reduce_grads(self)
            used = module.torch.tensor([float(one.grad is not None) for one in trained], device=trained[0].device)
            module.utils.all_reduce(used, self.process_group)
            all_reduce_grads(self)
            for parameter, ranks in zip(trained, used.tolist(), strict=True):
                if not ranks:
                    parameter.grad = None

        return reduce

    wrap(module.LegacyDistributedDataParallel, "all_reduce_grads", make)
