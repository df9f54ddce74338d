"""The languages of the picture world: hand-written ones, one file each, and ``constructed/`` ones.

A new language is one new file in this folder, a subclass of :class:`~.base.Language` under ``@register_language``, or
one row of ``constructed/constructed.yaml``. Both are discovered, nothing else has to be changed.
"""

from typing import List

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.picture_world.languages.base import LANGUAGES, Language
from mlvl_fairseq.registry import import_modules

import_modules(__name__)


def language_codes() -> List[str]:
    """Codes of all languages, English first and the others in alphabetical order."""
    return sorted(LANGUAGES, key=lambda code: (code != "en", code))


def get_language(code: str) -> Language:
    """Look a language up.

    Raises:
        UserError: no such language.
    """
    if code not in LANGUAGES:
        raise UserError(f"the picture world does not speak '{code}'; it speaks {', '.join(language_codes())}")
    return LANGUAGES[code]
