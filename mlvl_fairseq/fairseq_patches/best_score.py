"""fairseq keeps the best validation score in a function attribute: a second training in the same process is measured
against the first one's, and writes no best checkpoint if it stays below.

Breaks without it: ``fairseq_cli.train.cli_main()`` called again in a notebook, a sweep, or a test.
"""

from mlvl_fairseq.fairseq_patches.patching import patches, wrap


@patches("fairseq_cli.train")
def start_without_a_best_score(module) -> None:
    def make(main):
        def main_without_a_best_score(cfg):
            vars(module.checkpoint_utils.save_checkpoint).pop("best", None)
            return main(cfg)

        return main_without_a_best_score

    wrap(module, "main", make)
