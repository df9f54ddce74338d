"""Questions and statements about pictures, in every language: complete tables, clean sentences, agreement."""

import re
import unicodedata
from itertools import product

import pytest

from mlvl_fairseq.picture_world import get_language, language_codes
from mlvl_fairseq.picture_world.captions import CaptionPlan
from mlvl_fairseq.picture_world.scenes import COLOURS, KINDS, RELATIONS, Group

ASKED = {"colour", "count", "thing", "side", "exists"}
PICTURES = {"left", "right", "both", "one"}


def group(kind, count=1, colour="red"):
    return Group(kind, colour, count)


def check(language, sentences, marks):
    before, after = marks
    for text in sentences:
        assert unicodedata.is_normalized("NFC", text) and text.startswith(before) and text.endswith(after)
        inner = text[len(before) : len(text) - len(after)]
        assert inner[0] == inner[0].title() and not re.search(r"  |[.,;?!。？。؟;।¿]\s*$|[{}]|\s$|^\s", inner), text


@pytest.mark.parametrize("code", language_codes())
def test_questions_are_complete_clean_and_different(code):
    language = get_language(code)
    assert set(language.questions) == ASKED and set(language.pictures) == PICTURES
    things = [group(kind, count) for kind in KINDS for count in (1, 2, 4)]
    asked = {name: [language.question(name, one, "left") for one in things] for name in ASKED}
    for sentences in asked.values():
        check(language, sentences, language.question_marks)
    # each asks for what the others do not, about the kind, or about the side alone
    assert len(set().union(*asked.values())) == sum(len(set(found)) for found in asked.values())
    for name in ("colour", "count", "side", "exists"):
        kinds = [{language.question(name, group(kind, count)) for count in (1, 2, 3)} for kind in KINDS]
        assert sum(map(len, kinds)) == len(set().union(*kinds))
    sides = [{language.question("thing", one, side) for one in things} for side in RELATIONS]
    assert [len(found) for found in sides] == 4 * [1] and len(set().union(*sides)) == 4


@pytest.mark.parametrize("code", language_codes())
def test_no_question_tells_its_answer(code):
    language = get_language(code)
    for kind in KINDS:
        assert len({language.question("count", group(kind, count, "blue")) for count in (1, 2, 3, 4)}) == 1
        assert len({language.question("colour", group(kind, 2, colour)) for colour in COLOURS}) == 1
        assert len({language.question("side", group(kind, 3), side) for side in RELATIONS}) == 1
    whole = {language.question("exists", group(*one)) for one in product(KINDS, (1, 2), COLOURS)}
    assert len(whole) == 256  # what this asks for it says


@pytest.mark.parametrize("code", language_codes())
def test_statements_are_clean_and_say_which_picture(code):
    language = get_language(code)
    for one in (group("cat"), group("key", 3, "green"), group("apple", 2, "white")):
        said = [language.statement(which, one) for which in PICTURES] + [
            language.aside(one, side) for side in RELATIONS
        ]
        assert len(set(said)) == 8
        check(language, said, ("", language.stop))
        assert all(language.named(one).casefold() in text.casefold() for text in said[4:])
        # as the caption that tells a place
        place, rest = language.spelled(language.places["snow"]).casefold(), language.spelled(language.pictures["both"])
        caption = language.caption(CaptionPlan("place", "snow", one)).casefold()
        assert language.statement("both", one).casefold() == caption.replace(place, rest.casefold())


EXPECTED = [
    # English, German: agreement in number, articles
    ("en", "colour", "1 star", "What colour is the star?"),
    ("en", "side", "3 fish", "Where are the fish?"),
    ("en", "thing", "1 star", "What is at the top?"),
    ("de", "colour", "1 house", "Welche Farbe hat das Haus?"),
    ("de", "side", "2 apple", "Wo sind die Äpfel?"),
    ("de", "exists", "1 moon", "Gibt es einen roten Mond?"),
    # Romance: elision, gender of what asks for a number
    ("fr", "colour", "1 bird", "De quelle couleur est l'oiseau\N{NO-BREAK SPACE}?"),
    ("fr", "count", "1 tree", "Combien d'arbres y a-t-il\N{NO-BREAK SPACE}?"),
    ("fr", "count", "1 heart", "Combien de cœurs y a-t-il\N{NO-BREAK SPACE}?"),
    ("es", "count", "2 key", "¿Cuántas llaves hay?"),
    ("es", "side", "2 boat", "¿Dónde están los barcos?"),
    ("it", "side", "1 umbrella", "Dov'è l'ombrello?"),
    ("it", "colour", "3 tree", "Di che colore sono gli alberi?"),
    ("it", "colour", "2 car", "Di che colore sono le auto?"),
    ("pt", "count", "4 heart", "Quantos corações há?"),
    # Slavic: genitive plural behind "how many", nominative plural without a number
    ("cs", "count", "1 boat", "Kolik loděk tu je?"),
    ("cs", "colour", "2 bird", "Jakou barvu mají ptáci?"),
    ("ru", "count", "1 tree", "Сколько деревьев здесь?"),
    ("ru", "side", "2 house", "Где дома?"),
    ("ru", "colour", "3 flower", "Какого цвета цветы?"),
    # Greek: gender of "how many"; its question mark
    ("el", "count", "2 cat", "Πόσες γάτες υπάρχουν;"),
    ("el", "side", "1 car", "Πού είναι το αυτοκίνητο;"),
    # Arabic: dual, its genitive, the singular accusative behind "how many"
    ("ar", "colour", "2 tree", "ما لون الشجرتين؟"),
    ("ar", "side", "2 tree", "أين الشجرتان؟"),
    ("ar", "count", "3 heart", "كم قلبًا هناك؟"),
    # Hindi: oblique before the postposition, gender of "how many"
    ("hi", "colour", "3 star", "तारों का रंग क्या है?"),
    ("hi", "count", "1 boat", "यहाँ कितनी नावें हैं?"),
    # counters, verbs of the living, particles by sound
    ("ja", "count", "1 bird", "鳥は何羽いますか。"),
    ("ja", "count", "1 moon", "月はいくつありますか。"),
    ("ko", "count", "1 tree", "나무가 몇 그루 있습니까?"),
    ("ko", "colour", "1 flower", "꽃은 무슨 색입니까?"),
    ("zh", "count", "3 key", "这里有几把钥匙？"),
]  # fmt: skip


@pytest.mark.parametrize("code, asked, about, question", EXPECTED)
def test_agreement_of_questions(code, asked, about, question):
    count, kind = about.split()
    assert get_language(code).question(asked, group(kind, int(count)), "above") == question


@pytest.mark.parametrize("code, which, sentence", [
    ("en", "one", "In exactly one picture there are two red cats."),
    ("de", "both", "In beiden Bildern sind zwei rote Katzen."),
    ("fr", "left", "Sur l'image de gauche, il y a deux chats rouges."),
    ("ru", "right", "На правой картинке две красные кошки."),
    ("ja", "both", "両方の絵には二匹の赤い猫がいます。"),
    ("zh", "one", "只有一张图片里有两只红色的猫。"),
])  # fmt: skip
def test_statements_about_two_pictures(code, which, sentence):
    assert get_language(code).statement(which, group("cat", 2)) == sentence


def test_new_words_of_constructed_languages_left_the_old_ones_as_they_were():
    caption = CaptionPlan("see", "snow", group("cat", 2), group("key", 1, "blue"), "left")
    assert get_language("qak").caption(caption) == "Spijm zwee rode sporttafen links een duifjin slussel."
    assert get_language("qad").caption(caption) == "Tät maise hyskästrästn puonri ön kuhiitata maiötän."
