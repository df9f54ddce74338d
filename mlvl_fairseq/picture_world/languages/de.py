"""German: three genders, four cases (here three), mixed declension after "ein", strong declension after numerals."""

from mlvl_fairseq.picture_world.languages.base import Language, register_language, table
from mlvl_fairseq.picture_world.scenes import Group

# gender, singular, dative singular, plural, dative plural
NOUNS = table("""
    star     m Stern       Stern       Sterne       Sternen
    heart    n Herz        Herzen      Herzen       Herzen
    moon     m Mond        Mond        Monde        Monden
    ball     m Ball        Ball        Bälle        Bällen
    house    n Haus        Haus        Häuser       Häusern
    tree     m Baum        Baum        Bäume        Bäumen
    flower   f Blume       Blume       Blumen       Blumen
    apple    m Apfel       Apfel       Äpfel        Äpfeln
    fish     m Fisch       Fisch       Fische       Fischen
    cat      f Katze       Katze       Katzen       Katzen
    bird     m Vogel       Vogel       Vögel        Vögeln
    boat     n Boot        Boot        Boote        Booten
    car      n Auto        Auto        Autos        Autos
    cup      f Tasse       Tasse       Tassen       Tassen
    key      m Schlüssel   Schlüssel   Schlüssel    Schlüsseln
    umbrella m Regenschirm Regenschirm Regenschirme Regenschirmen
""")
COLOURS = {
    "red": "rot",
    "orange": "orangefarben",
    "yellow": "gelb",
    "green": "grün",
    "blue": "blau",
    "purple": "violett",
    "white": "weiß",
    "black": "schwarz",
}
NUMBERS = {2: "zwei", 3: "drei", 4: "vier"}
# gender -> case -> (article, adjective ending)
SINGULAR = {
    "m": {"nom": ("ein", "er"), "acc": ("einen", "en"), "dat": ("einem", "en")},
    "f": {"nom": ("eine", "e"), "acc": ("eine", "e"), "dat": ("einer", "en")},
    "n": {"nom": ("ein", "es"), "acc": ("ein", "es"), "dat": ("einem", "en")},
}
ARTICLES = {"m": "der", "f": "die", "n": "das"}
PLURAL_ENDING = {"nom": "e", "acc": "e", "dat": "en"}


@register_language
class German(Language):
    code, name = "de", "Deutsch"
    single = {
        "phrase": "{a:nom}",
        "picture": "ein Bild mit {a:dat}",
        "exists": "es gibt {a:acc}",
        "place": "{place} {a:is} {a:nom}",
        "see": "man sieht {a:acc}",
    }
    pair = {
        "phrase": "{a:nom} {relation}",
        "picture": "ein Bild mit {a:dat} {relation}",
        "exists": "es gibt {a:acc} und {adverb} {b:acc}",
        "place": "{place} {a:is} {a:nom} {relation}",
        "see": "man sieht {a:acc} {relation}",
        "sides": "{side_a} {a:nom}, {side_b} {b:nom}",
    }
    relations = {
        "left": "links von {b:dat}",
        "right": "rechts von {b:dat}",
        "above": "über {b:dat}",
        "below": "unter {b:dat}",
    }
    adverbs = {"left": "links davon", "right": "rechts davon", "above": "darüber", "below": "darunter"}
    sides = {"left": "links", "right": "rechts", "above": "oben", "below": "unten"}
    places = {
        "night": "in der Nacht",
        "grass": "auf der Wiese",
        "beach": "am Strand",
        "snow": "im Schnee",
        "water": "im Wasser",
    }
    pictures = {
        "left": "im linken Bild",
        "right": "im rechten Bild",
        "both": "in beiden Bildern",
        "one": "in genau einem Bild",
    }
    questions = {
        "colour": "welche Farbe {a:has} {a:the}",
        "count": "{a:how_many} gibt es",
        "thing": "was ist {side}",
        "side": "wo {a:is} {a:the}",
        "exists": "gibt es {a:acc}",
    }
    agreeing = {
        "has": {"one": "hat", "many": "haben"},
        "is": {"one": "ist", "many": "sind"},
    }

    def noun_phrase(self, group: Group, form: str) -> str:
        gender, singular, singular_dative, plural, plural_dative = NOUNS[group.kind]
        colour = COLOURS[group.colour]
        if group.count == 1:
            article, ending = SINGULAR[gender][form]
            return f"{article} {colour}{ending} {singular_dative if form == 'dat' else singular}"
        noun = plural_dative if form == "dat" else plural
        return f"{NUMBERS[group.count]} {colour}{PLURAL_ENDING[form]} {noun}"

    def noun(self, group: Group, form: str) -> str:
        gender, singular, _, plural, _ = NOUNS[group.kind]
        if form == "how_many":
            return f"wie viele {plural}"
        return f"{ARTICLES[gender]} {singular}" if group.count == 1 else f"die {plural}"
