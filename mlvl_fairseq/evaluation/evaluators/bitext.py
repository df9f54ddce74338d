"""Translation retrieval: a sentence is to find its translation among all. What a text encoder makes of a language."""

import logging
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional

import numpy as np

from mlvl_fairseq.codes import language_code
from mlvl_fairseq.data.captions.reading import ReadingOptions
from mlvl_fairseq.data.captions.table import POLICIES, Problems
from mlvl_fairseq.data.language_files import LANG, told_what_is_there
from mlvl_fairseq.data.parallel.bitext import LAYOUTS, Bitext, Layout, file_codes, filled, in_layout, read_bitext
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.evaluators.base import Evaluator, ImageFeatures, Result, option, register_evaluator
from mlvl_fairseq.evaluation.evaluators.retrieval import checksums
from mlvl_fairseq.evaluation.metrics.query_ranks import QueryRanks
from mlvl_fairseq.evaluation.metrics.ranking import retrieval_ranks
from mlvl_fairseq.evaluation.signature import Signature, data_fingerprint
from mlvl_fairseq.inference.encoder import Encoder

logger = logging.getLogger(__name__)
METRICS = ("to_r1", "from_r1", "r1")
_FILES = "files"


@dataclass(kw_only=True)
class BitextOptions:
    lang: List[str] = option("language of the sentences, or several: de,fr", metavar="LIST", languages=True)
    pivot: str = option("language of the translations", "en", metavar="LANG")
    sentences: Optional[str] = option(
        "file of sentences, one a line; {lang} stands for the language",
        None,
        identity=None,
        metavar="FILE",
        group=_FILES,
    )
    translations: Optional[str] = option(
        "file of their translations, line by line; {lang} and {pivot} stand for the languages",
        None,
        identity=None,
        metavar="FILE",
        group=_FILES,
    )
    layout: Optional[str] = option(
        "instead of two files: how those below --root are called, tatoeba (tatoeba.deu-eng.deu) or flores "
        "(dev/deu_Latn.dev, by --split)",
        None,
        identity=None,
        choices=tuple(LAYOUTS),
        group=_FILES,
    )
    root: Optional[str] = option("with --layout: the folder", None, identity=None, metavar="DIR", group=_FILES)
    file_codes: str = option(
        "languages that names of files have another code for: de=deu,en=eng",
        "",
        identity=None,
        metavar="LIST",
        group=_FILES,
    )
    split: str = option("name of the split, for the signature and for names of files with {split}", "test")
    prefix: str = option(
        "put before every text, such as 'query: ', which E5 was trained with",
        "",
        identity=lambda prefix: prefix or None,
        metavar="TEXT",
    )
    batch_size: int = option("sentences a batch", 256, identity=None, least=1)
    on_problem: str = option(
        "pairs with an empty or unreadable line: count and leave out, or stop at the first",
        "skip",
        identity=None,
        choices=POLICIES,
    )
    max_problems: Optional[int] = option(ReadingOptions.help("max_problems"), None, identity=None, metavar="N", least=0)


@register_evaluator("bitext")
class BitextRetrieval(Evaluator):
    """Translation retrieval: does a text encoder put a sentence and its translation beside each other?

    No picture is needed, and any text encoder will do. to_r1: accuracy in % with which a sentence finds its translation
    among all of the file, by cosine; from_r1: with which a translation finds its sentence; r1: the mean of both.
    xsim's error, by cosine, is 100 - to_r1. Accuracy with the largest margin (LASER's default) is another number.
    """

    Options = BitextOptions
    metrics = METRICS
    keys = {
        "pivot": "language of the translations",
        "search": "by which similarity a sentence finds its translation",
        "ties": "order of equal scores: 'index' lets the smaller index win",
        "prefix": "what was put before every text, if anything",
    }
    examples = """\
  mlvl-evaluate bitext --checkpoint xlmr_base/mte.pt --lang de,fr,cs --sentences 'val.{lang}' --translations val.en
  mlvl-evaluate bitext --checkpoint lilt.pt --layout tatoeba --root LASER/data/tatoeba/v1 \\
      --lang de,fr --file-codes de=deu,fr=fra,en=eng --output-dir scores/tatoeba
  mlvl-evaluate bitext --checkpoint xlmr_base/mte.pt --layout flores --root flores200_dataset --split devtest \\
      --lang de,sw --file-codes de=deu_Latn,sw=swh_Latn,en=eng_Latn
"""

    options: BitextOptions

    def __init__(self, options: BitextOptions):
        super().__init__(options)
        language_code(options.pivot)
        self.codes: Mapping[str, str] = file_codes(options.file_codes)
        self._of_pivot = None  # vectors of translations that several languages share

    def read(self) -> Dict[str, Bitext]:
        options, patterns = self.options, self._patterns()
        if LANG not in patterns.sentences and len(options.lang) > 1:
            raise UserError(f"--sentences '{patterns.sentences}' needs {{lang}}: there are several languages")
        if options.pivot in options.lang:
            raise UserError(f"--lang {options.pivot} is the --pivot: leave it out")
        return {lang: self._read(lang, patterns) for lang in options.lang}

    def _patterns(self) -> Layout:
        options = self.options
        files, layout = (options.sentences, options.translations), (options.layout, options.root)
        if all(files) and not any(layout):
            return Layout(*files)
        if all(layout) and not any(files):
            return in_layout(*layout)
        raise UserError("give either --sentences FILE and --translations FILE, or --layout NAME and --root DIR")

    def _read(self, lang: str, patterns: Layout) -> Bitext:
        options = self.options
        codes = {name: self.codes.get(code, code) for name, code in (("lang", lang), ("pivot", options.pivot))}
        problems = Problems(options.on_problem, options.max_problems, things="pairs of sentences")
        of_lang = [filled(pattern, pivot=codes["pivot"], split=options.split) for pattern in patterns]
        with told_what_is_there(codes["lang"], *of_lang):
            bitext = read_bitext(*(pattern.replace(LANG, codes["lang"]) for pattern in of_lang), problems)
        if problems:
            logger.warning("%s: %s", bitext.path, problems.summary())
        return bitext

    def fingerprint(self, data: Bitext) -> str:
        return data_fingerprint(data.translations, data.sentences, range(len(data)))

    def source(self, data: Bitext) -> str:
        return data.path

    def score(self, encoder: Encoder, lang: str, data: Bitext, images: Optional[ImageFeatures]) -> Result:
        sentences = self._encode(encoder, data.sentences, lang)
        shared = (encoder.fingerprint, data.translations)
        if self._of_pivot is None or self._of_pivot[0] != shared:
            self._of_pivot = shared, self._encode(encoder, data.translations, self.options.pivot)
        pairs = np.arange(len(data))
        # What ranks images for texts ranks translations for sentences: each has one.
        from_ranks, to_ranks = retrieval_ranks(self._of_pivot[1], sentences, pairs, normalise=True)
        found = [100.0 * float(np.mean(ranks < 1)) for ranks in (to_ranks, from_ranks)]
        ranks = QueryRanks(checksums(data.translations), pairs, from_ranks, to_ranks)
        return Result(dict(zip(METRICS, [*found, float(np.mean(found))])), self._signature(encoder, lang, data), ranks)

    def _encode(self, encoder: Encoder, texts: List[str], lang: str) -> np.ndarray:
        return encoder.encode_texts([self.options.prefix + text for text in texts], lang, self.options.batch_size)

    def _signature(self, encoder: Encoder, lang: str, data: Bitext) -> str:
        options = self.options
        prefix = {"prefix": repr(options.prefix).replace("|", " ")} if options.prefix else {}
        return str(
            Signature(
                data=self.fingerprint(data),
                split=options.split,
                lang=lang,
                images=None,
                texts=2 * len(data),
                tok=encoder.tokenizer.name,
                maxlen=encoder.max_length,
                precision="fp32",
                own={"pivot": options.pivot, "search": "cosine", "ties": "index", **prefix},
            )
        )
