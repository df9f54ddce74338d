"""``--ddp-backend pytorch_ddp``, fairseq's default, on a CPU: torch wants no device ids there."""

from mlvl_fairseq.fairseq_patches.patching import patches, wrap


@patches("fairseq.models.distributed_fairseq_model")
def without_device_ids(module) -> None:
    def make(data_parallel):
        def build(module, device_ids=None, output_device=None, **options):
            if all(parameter.device.type == "cpu" for parameter in module.parameters()):
                device_ids = output_device = None
            return data_parallel(module, device_ids=device_ids, output_device=output_device, **options)

        return build

    wrap(module, "DistributedDataParallel", make)
