"""``fairseq-train`` hands each of its 300 options to Hydra as a text, whose parser for a grammar of sweeps and
functions takes longer than all else that Hydra does. Nearly all are plain: a name, and a number, a text or null.

Breaks without it: ``fairseq-train``, ``mlvl-cll``, of which every language starts later.
"""

import re

from mlvl_fairseq.fairseq_patches.patching import patches, wrap

_NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
_KINDS = {
    "null": r"null",
    "truth": r"True|False",
    "whole": r"-?(?:0|[1-9][0-9]*)",
    "number": _NUMBER,
    "text": r"'[^'\\]*'",
    "name": r"(?!(?:true|false|null|inf|nan)\Z)[a-z][a-z0-9_]*",
}
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_PLAIN = re.compile(rf"({_NAME}(?:\.{_NAME})*)=(?:{'|'.join(f'(?P<{kind}>{what})' for kind, what in _KINDS.items())})")


@patches("hydra.core.override_parser.overrides_parser")
def read_plain_overrides(module) -> None:
    from hydra.core.override_parser.types import Override, OverrideType, Quote, QuotedString, ValueType

    values = {
        "null": lambda text: None,
        "truth": lambda text: text == "True",
        "whole": int,
        "number": float,
        "text": lambda text: QuotedString(text[1:-1], Quote.single),
        "name": str,
    }

    def make(parse_rule):
        def parse(parser, text, rule_name):
            plain = _PLAIN.fullmatch(text) if rule_name == "override" else None
            if plain is None:
                return parse_rule(parser, text, rule_name)
            value = values[plain.lastgroup](plain[plain.lastgroup])
            return Override(OverrideType.CHANGE, plain[1], ValueType.ELEMENT, value, input_line=text)

        return parse

    wrap(module.OverridesParser, "parse_rule", make)
