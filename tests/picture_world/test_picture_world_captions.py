"""Captions of the picture world: complete templates, clean sentences, and agreement in every language."""

import re
import string
import unicodedata
from itertools import product

import pytest

from mlvl_fairseq.picture_world import WorldSettings, get_language, language_codes, plan_world
from mlvl_fairseq.picture_world.captions import PAIR_TEMPLATES, SINGLE_TEMPLATES, CaptionPlan
from mlvl_fairseq.picture_world.scenes import COLOURS, INVERSE, KINDS, MAX_COUNT, PLACES, RELATIONS, Group

GROUPS = [Group(*values) for values in product(KINDS, COLOURS, range(1, MAX_COUNT + 1))]
NUMBERED = product(enumerate(KINDS), enumerate(COLOURS), range(1, MAX_COUNT + 1))
# Every other group: each kind in each colour, each kind and each colour in each number.
HALF = [Group(kind, colour, count) for (i, kind), (j, colour), count in NUMBERED if (i + j + count) % 2 == 0]


# ---- all languages ---------------------------------------------------------------------------------------


def test_languages_and_scripts():
    def scripts(code):
        text = get_language(code).caption(CaptionPlan("phrase", "night", Group("star", "red", 2)))
        return {unicodedata.name(letter).split()[0] for letter in text if letter.isalpha()}

    assert language_codes()[0] == "en" and len(language_codes()) >= 10
    found = set.union(*map(scripts, language_codes()))
    assert found >= {"LATIN", "CYRILLIC", "GREEK", "ARABIC", "DEVANAGARI", "CJK", "HIRAGANA", "HANGUL"}
    assert scripts("ru") == {"CYRILLIC"} and scripts("el") == {"GREEK"} and scripts("cs") == {"LATIN"}


@pytest.mark.parametrize("code", language_codes())
def test_templates_are_complete_and_name_each_group_once(code):
    language = get_language(code)

    def phrases(template):
        """How often the template, with what it includes, names a group and does not only agree with it."""
        fields = [(name, form) for _, name, form, _ in string.Formatter().parse(template) if name]
        return sorted(
            {"relation": "b"}.get(name, name) for name, form in fields
            if name in ("a", "b", "relation") and form not in language.agreeing
        )  # fmt: skip

    assert set(language.single) == set(SINGLE_TEMPLATES) and set(language.pair) == set(PAIR_TEMPLATES)
    assert {name: phrases(template) for name, template in language.single.items()} == dict.fromkeys(
        SINGLE_TEMPLATES, ["a"]
    )
    assert {name: phrases(template) for name, template in language.pair.items()} == dict.fromkeys(
        PAIR_TEMPLATES, ["a", "b"]
    )
    assert set(language.relations) == set(language.adverbs) == set(language.sides) == set(RELATIONS)
    assert all(phrases(template) == ["b"] for template in language.relations.values())
    assert set(language.places) == set(PLACES)
    assert "{place}" in language.single["place"] and "{place}" in language.pair["place"]


@pytest.mark.parametrize("code", language_codes())
def test_captions_are_clean_sentences_and_say_what_is_there(code):
    language, other = get_language(code), Group("cat", "white", 3)
    for template in SINGLE_TEMPLATES:
        captions = [language.caption(CaptionPlan(template, "snow", group)) for group in GROUPS]
        assert len(set(captions)) == len(GROUPS)
        check_sentences(language, captions)
    for template, relation in product(PAIR_TEMPLATES, RELATIONS):
        first = [language.caption(CaptionPlan(template, "snow", group, other, relation)) for group in HALF]
        second = [language.caption(CaptionPlan(template, "snow", other, group, relation)) for group in HALF]
        assert len(set(first)) == len(set(second)) == len(HALF)
        check_sentences(language, first + second)
    a, b = GROUPS[0], GROUPS[-1]
    for template in PAIR_TEMPLATES:
        said = {language.caption(CaptionPlan(template, "snow", a, b, relation)) for relation in RELATIONS}
        assert len(said) == len(RELATIONS)
    placed = {language.caption(CaptionPlan("place", place, a, b, "left")) for place in PLACES}
    assert len(placed) == len(PLACES)


def check_sentences(language, captions):
    for caption in captions:
        assert unicodedata.is_normalized("NFC", caption)
        assert caption.endswith(language.stop) and caption.count(language.stop) == 1
        assert caption[0] == caption[0].title() and not re.search(r"  | [.,;。।、，]|[{}]|\s$|^\s", caption)


def test_captions_tell_pictures_apart_in_every_language():
    world = plan_world(WorldSettings(train=500, valid=50, test=50))
    pictures = [picture for split in world.values() for picture in split]
    for language in map(get_language, language_codes()):
        said = {}
        for picture in pictures:
            captions = [language.caption(plan) for plan in picture.plans]
            assert len(set(captions)) == 2
            for caption in captions:
                assert said.setdefault(caption, picture.name) == picture.name


def test_a_pair_is_told_from_either_side():
    world = plan_world(WorldSettings(train=200))
    relations = {plan.relation for picture in world["train"] for plan in picture.plans}
    assert relations == {*RELATIONS, None}
    for picture in world["train"]:
        for plan in picture.plans:
            told = (plan.a, plan.b, plan.relation)
            if told != picture.scene.content:
                assert (plan.b, plan.a, INVERSE[plan.relation]) == picture.scene.content


# ---- agreement, language by language ---------------------------------------------------------------------

EXPECTED = [
    # English: a/an, number of verb and pronoun, irregular plural
    ("en", "exists", "1 orange boat / below / 2 white fish", "There is an orange boat, and above it two white fish."),
    ("en", "exists", "3 red star / above / 1 blue house", "There are three red stars, and below them a blue house."),
    ("en", "sides", "1 red key / left / 1 black cat", "On the left, a red key; on the right, a black cat."),
    # German: gender and case after "ein", strong plural, dative after prepositions, weak noun
    ("de", "phrase", "1 red star / above / 1 blue house", "Ein roter Stern über einem blauen Haus."),
    ("de", "see", "1 red star / left / 2 black bird", "Man sieht einen roten Stern links von zwei schwarzen Vögeln."),
    ("de", "exists", "2 green apple / above / 1 white moon",
     "Es gibt zwei grüne Äpfel und darunter einen weißen Mond."),
    ("de", "picture", "1 yellow heart / below / 1 red cup",
     "Ein Bild mit einem gelben Herzen unter einer roten Tasse."),
    # French: gender, invariable "orange", elision of "de", irregular plural, possessive
    ("fr", "picture", "2 white flower / left / 1 green tree",
     "Une image de deux fleurs blanches à gauche d'un arbre vert."),
    ("fr", "exists", "4 orange bird / left / 1 purple car",
     "Il y a quatre oiseaux orange et, à leur droite, une voiture violette."),
    ("fr", "exists", "1 black cup / right / 1 blue boat", "Il y a une tasse noire et, à sa gauche, un bateau bleu."),
    # Spanish: number of the verb, plural in -ces, invariable noun
    ("es", "see", "2 purple fish / above / 1 white house", "Se ven dos peces morados encima de una casa blanca."),
    ("es", "see", "1 red umbrella / below / 3 blue tree", "Se ve un paraguas rojo debajo de tres árboles azules."),
    # Italian: elided article, invariable nouns and colours, number of verb and possessive
    ("it", "exists", "1 red car / left / 2 purple apple", "C'è un'auto rossa e, alla sua destra, due mele viola."),
    ("it", "exists", "4 white car / right / 1 green tree",
     "Ci sono quattro auto bianche e, alla loro sinistra, un albero verde."),
    # Portuguese: gender of "two" and of the pronoun, plural in -is
    ("pt", "exists", "2 blue apple / above / 2 red heart",
     "Há duas maçãs azuis e, abaixo delas, dois corações vermelhos."),
    ("pt", "see", "1 yellow fish / left / 2 orange key", "Vê-se um peixe amarelo à esquerda de duas chaves laranja."),
    # Russian: genitive singular after 2 to 4, gender of "two", cases after prepositions, soft declension
    ("ru", "phrase", "2 red star / above / 1 blue house", "Две красные звезды над синим домом."),
    ("ru", "phrase", "2 red house / right / 4 blue bird", "Два красных дома справа от четырёх синих птиц."),
    ("ru", "see", "1 white apple / below / 3 black tree", "Видно белое яблоко под тремя чёрными деревьями."),
    ("ru", "exists", "1 green cup / above / 1 yellow heart", "Здесь зелёная чашка, а под ней жёлтое сердце."),
    # Czech: animate nominative and accusative plural, gender of "two", numerals in cases
    ("cs", "phrase", "2 blue bird / above / 4 red key", "Dva modří ptáci nad čtyřmi červenými klíči."),
    ("cs", "see", "2 blue bird / left / 3 white star", "Vidíme dva modré ptáky nalevo od tří bílých hvězd."),
    ("cs", "see", "1 black cat / right / 2 green apple", "Vidíme černou kočku napravo od dvou zelených jablek."),
    ("cs", "exists", "2 yellow heart / above / 1 red fish", "Jsou tu dvě žlutá srdce a pod nimi červená ryba."),
    # Greek: gender of 1, 3 and 4, invariable colours, number of the verb
    ("el", "exists", "3 red heart / above / 1 blue house",
     "Υπάρχουν τρεις κόκκινες καρδιές και από κάτω τους ένα μπλε σπίτι."),
    ("el", "exists", "1 white cat / below / 4 black key",
     "Υπάρχει μια άσπρη γάτα και από πάνω της τέσσερα μαύρα κλειδιά."),
    # Arabic: dual in its cases, numerals of opposite gender, feminine singular colour of plurals, tanwin
    ("ar", "phrase", "2 red star / above / 2 blue house", "نجمتان حمراوان فوق بيتين أزرقين."),
    ("ar", "phrase", "3 white key / left / 4 black tree", "ثلاثة مفاتيح بيضاء على يسار أربع أشجار سوداء."),
    ("ar", "see", "1 orange heart / below / 1 red car", "نرى قلبًا برتقاليًا تحت سيارة حمراء."),
    ("ar", "see", "1 green boat / right / 2 purple cat", "نرى قاربًا أخضر على يمين قطتين بنفسجيتين."),
    ("ar", "exists", "2 yellow apple / above / 1 white bird", "هناك تفاحتان صفراوان، وتحتهما طائر أبيض."),
    # Hindi: gender, oblique before postpositions, agreement of the verb
    ("hi", "see", "2 black key / above / 1 yellow star", "एक पीले तारे के ऊपर दो काली चाबियाँ दिखाई देती हैं।"),
    ("hi", "exists", "1 green umbrella / above / 3 blue cup", "यहाँ एक हरा छाता है और उसके नीचे तीन नीले प्याले हैं।"),
    ("hi", "see", "3 red star / left / 2 white fish", "दो सफ़ेद मछलियों के बाईं ओर तीन लाल तारे दिखाई देते हैं।"),
    # Chinese: measure words, 两
    ("zh", "exists", "2 white cat / left / 1 red house", "这里有两只白色的猫，它们的右边有一座红色的房子。"),
    ("zh", "sides", "3 yellow fish / above / 4 black umbrella", "上面是三条黄色的鱼，下面是四把黑色的雨伞。"),
    # Japanese: counters, verb of the living and of things
    ("ja", "exists", "2 white bird / left / 1 blue car", "二羽の白い鳥がいて、その右に一台の青い車があります。"),
    ("ja", "exists", "1 red house / right / 3 black cat", "一軒の赤い家があり、その左に三匹の黒い猫がいます。"),
    # Korean: counters, subject particle by sound
    ("ko", "see", "1 white boat / above / 2 red fish", "빨간 물고기 두 마리 위에 하얀 배 한 척이 보입니다."),
    ("ko", "see", "4 green tree / left / 1 black house", "까만 집 한 채 왼쪽에 초록색 나무 네 그루가 보입니다."),
    # one group, places
    ("en", "place", "3 purple flower", "In the snow there are three purple flowers."),
    ("de", "place", "1 white house", "Im Schnee ist ein weißes Haus."),
    ("fr", "place", "3 purple flower", "Dans la neige, il y a trois fleurs violettes."),
    ("cs", "place", "3 white bird", "Na sněhu jsou tři bílí ptáci."),
    ("ja", "picture", "4 yellow fish", "四匹の黄色い魚がいる絵。"),
    ("ar", "see", "2 black car", "نرى سيارتين سوداوين."),
]  # fmt: skip


@pytest.mark.parametrize("code, template, meaning, sentence", EXPECTED)
def test_agreement(code, template, meaning, sentence):
    def group(text):
        count, colour, kind = text.split()
        return Group(kind, colour, int(count))

    a, *rest = meaning.split(" / ")
    relation, b = rest or (None, None)
    plan = CaptionPlan(template, "snow", group(a), b and group(b), relation)
    assert get_language(code).caption(plan) == sentence
