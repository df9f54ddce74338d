"""Orders in which languages are learned: the published ones, that of the picture world, and any comma list."""

from typing import Dict, List

from mlvl_fairseq.errors import UserError

_XM3600 = (
    "ar bn cs da de el en es fa fi fil fr he hi hr hu id it ja ko mi nl no pl pt quz ro ru sv sw te th tr uk vi zh"
)
ORDERS: Dict[str, str] = {
    "order1": _XM3600,
    "order222": (
        "en it de fil tr uk nl bn he fi sv quz fa mi fr el zh id sw no hi da te th pt ru ro pl hr es vi ar cs ko ja hu"
    ),
    # all languages of the picture world, shuffled; codes with q are constructed languages
    "order36": (
        "en qau qal qad qav ko es qat qaq pt ru qab qao hi qan qae zh qas qai qam qag qaa qac qap ja it fr qaj qaf ar "
        "de qar qah cs el qak"
    ),
}


def language_order(text: str) -> List[str]:
    """A named order, or the languages of a comma list.

    Raises:
        UserError: neither; or a language twice.
    """
    languages = ORDERS[text].split() if text in ORDERS else [lang.strip() for lang in text.split(",") if lang.strip()]
    if len(languages) < 2 and text.strip() not in languages:
        raise UserError(f"'{text}' is no order: give {', '.join(ORDERS)} or languages as en,de,fr")
    twice = sorted({lang for lang in languages if languages.count(lang) > 1})
    if twice:
        raise UserError(f"order {text}: {', '.join(twice)} occurs more than once")
    return languages
