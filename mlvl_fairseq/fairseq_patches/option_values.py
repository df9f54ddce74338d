"""Option values become Hydra overrides: ``${`` in one is a reference to another option, a backslash may escape a quote.

Breaks without it: ``fairseq-train ... --save-dir 'a${b}c'`` (an option that does not exist is blamed), ``--save-dir
'a\\'`` (a traceback of Hydra's lexer).
"""

import re

from mlvl_fairseq.fairseq_patches.patching import patches, wrap
from mlvl_fairseq.options import refuse_reference

_DEFAULT = re.compile(r"\$\{[\w.]+\}")  # such as ${common.seed}: an option that follows another


@patches("fairseq.dataclass.utils")
def refuse_what_hydra_would_read(module) -> None:
    def make(override_module_args):
        def checked(args):
            for name, value in vars(args).items() if args is not None else ():
                if isinstance(value, str) and not _DEFAULT.fullmatch(value):
                    refuse_reference(value, f"--{name.replace('_', '-')}")
            return override_module_args(args)

        return checked

    wrap(module, "override_module_args", make)
