"""Constructed languages: generated from ``constructed.yaml``, spoken by nobody.

The world's hand-written languages are fourteen of the 36 of XM3600 (Thapliyal et al., 2022). For each of the other 22,
but with Georgian and Armenian for Hungarian and Quechua, there is a constructed one with like habits: script, word
order, affixes, articles, counters, and a share of words taken from a relative, some unchanged, some by regular sound
changes. Their words mean nothing in the language they are like.
Codes are of ISO 639-2's range ``qaa`` to ``qtz``, reserved for local use: no real language has one.

A new one is one row of the table. A row's words depend on its seed and its relative's words alone.
"""

from mlvl_fairseq.picture_world.languages.base import add_language
from mlvl_fairseq.picture_world.languages.constructed.language import ConstructedLanguage
from mlvl_fairseq.picture_world.languages.constructed.lexicon import LEXICON, constructed_rows

for _code, _row in constructed_rows().items():
    add_language(ConstructedLanguage(_code, _row, LEXICON.words(_code)))
