"""Captions and pictures to try an export on: our own, in several scripts and shapes, and those of a corpus."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, List, Optional

from mlvl_fairseq.data.corpus import SPLITS, Corpus
from mlvl_fairseq.data.image_names import ImageFolder
from mlvl_fairseq.data.images.reading import load_image
from mlvl_fairseq.export.pictures import own_pictures

if TYPE_CHECKING:
    from PIL import Image

PICTURES = 8  # of a corpus
CAPTIONS = 16  # of a corpus's language that are encoded; all of them are cut

OWN_CAPTIONS = (
    "A dog runs across the beach.",
    "Two  children's bicycles lean on a wall (3 metres high), don't they?",
    "Ein Mädchen mit Brille füttert Gänse – 100 % freiwillig!",
    "Un garçon mange une crêpe à l’ombre d’un chêne.",
    "Starsza pani w żółtym płaszczu czeka na przystanku.",
    "Một người đàn ông đang đẩy chiếc xe đạp cũ.",
    "İki kadın çarşıda şemsiye seçiyor.",
    "Собака бежит по заснеженному полю.",
    "Ένα λευκό σκυλί τρέχει στην παραλία.",
    "كلبٌ أبيض يركض على الشاطئ عند الغروب.",
    "שני ילדים משחקים בכדור אדום.",
    "एक लड़की नीली साइकिल चला रही है।",
    "একটি মেয়ে লাল ছাতা ধরে আছে।",
    "சிவப்பு உடை அணிந்த ஒரு பெண் சிரிக்கிறாள்.",
    "สุนัขสีขาววิ่งบนชายหาด",
    "一只白色的狗在海滩上奔跑，旁边有两个孩子。",
    "赤い傘をさした女性が駅の前で待っている。",
    "한 남자가 빨간 자전거를 타고 있다.",
    "თეთრი ძაღლი სანაპიროზე გარბის.",
    "አንድ ነጭ ውሻ በባህር ዳርቻ ይሮጣል።",
    "🐶 on a beach 🏖️ at 18:30",
    "Cafe\u0301 de Paris, e\u0301te\u0301 2019",
    "tab\tand  many   spaces ",
    "",
)
LONG_CAPTION = " ".join(["a very long caption goes on and on, überall und immer weiter, 一直一直写下去"] * 12)


@dataclass(frozen=True)
class Samples:
    """What an export is tried on.

    Attributes:
        captions: that are encoded. more_captions: that are only cut, too. pictures: RGB.
        source: what they are, in words.
    """

    captions: List[str]
    more_captions: List[str]
    pictures: List["Image.Image"]
    source: str

    @classmethod
    def own(cls, size: Optional[int]) -> "Samples":
        """Ours. `size`: of the network's pictures; None: it takes none."""
        pictures = own_pictures(size) if size else []
        return cls([*OWN_CAPTIONS, LONG_CAPTION], [], pictures, "captions in 19 languages and generated pictures")

    @classmethod
    def of_corpus(cls, folder, size: Optional[int]) -> "Samples":
        """Ours, and those of the last split of a corpus that has captions.

        Raises:
            UserError, DataError: it is none, or an image cannot be read.
        """
        corpus, own = Corpus(folder), cls.own(size)
        split = next(split for split in reversed(SPLITS) if corpus.languages(split))
        captions = {lang: corpus.captions(split, lang) for lang in corpus.languages(split)}
        some = [caption for given in captions.values() for caption in given[:CAPTIONS]]
        more = [caption for given in captions.values() for caption in given[CAPTIONS:]]
        pictures = corpus_pictures(corpus, split) if size else []
        words = f"the captions of the {split} split of {corpus.folder.resolve().name} in {', '.join(captions)}"
        source = f"{own.source}; {words}" + (f" and {len(pictures)} of its pictures" if pictures else "")
        return cls([*own.captions, *some], list(dict.fromkeys(more)), [*own.pictures, *pictures], source)


def corpus_pictures(corpus: Corpus, split: str) -> List["Image.Image"]:
    """The first ones of a split, if the corpus knows where they are. Raises DataError: one cannot be read."""
    root = corpus.manifest.get("image_root")
    return [load_image(ImageFolder(root).path(name)) for name in corpus.images(split)[:PICTURES]] if root else []
