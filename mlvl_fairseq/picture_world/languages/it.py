"""Italian: "una" is elided before a vowel."""

from mlvl_fairseq.picture_world.languages.base import register_language, table
from mlvl_fairseq.picture_world.languages.romance import RomanceLanguage


@register_language
class Italian(RomanceLanguage):
    code, name = "it", "italiano"
    nouns = table("""
        star     f stella   stelle
        heart    m cuore    cuori
        moon     f luna     lune
        ball     m pallone  palloni
        house    f casa     case
        tree     m albero   alberi
        flower   m fiore    fiori
        apple    f mela     mele
        fish     m pesce    pesci
        cat      m gatto    gatti
        bird     m uccello  uccelli
        boat     f barca    barche
        car      f auto     auto
        cup      f tazza    tazze
        key      f chiave   chiavi
        umbrella m ombrello ombrelli
    """)
    colours = table("""
        red    rosso     rossa     rossi     rosse
        orange arancione arancione arancioni arancioni
        yellow giallo    gialla    gialli    gialle
        green  verde     verde     verdi     verdi
        blue   blu       blu       blu       blu
        purple viola     viola     viola     viola
        white  bianco    bianca    bianchi   bianche
        black  nero      nera      neri      nere
    """)
    numbers = {"m": ("un", "due", "tre", "quattro"), "f": ("una", "due", "tre", "quattro")}
    articles = {"m": ("il", "i"), "f": ("la", "le")}
    how_many = {"m": "quanti", "f": "quante"}
    single = {
        "phrase": "{a}",
        "picture": "un'immagine di {a}",
        "exists": "{a:is} {a}",
        "place": "{place} {a:is} {a}",
        "see": "si {a:sees} {a}",
    }
    pair = {
        "phrase": "{a} {relation}",
        "picture": "un'immagine di {a} {relation}",
        "exists": "{a:is} {a} e, {adverb}, {b}",
        "place": "{place} {a:is} {a} {relation}",
        "see": "si {a:sees} {a} {relation}",
        "sides": "{side_a} {a}, {side_b} {b}",
    }
    relations = {"left": "a sinistra di {b}", "right": "a destra di {b}", "above": "sopra {b}", "below": "sotto {b}"}
    adverbs = {
        "left": "alla {a:its} sinistra",
        "right": "alla {a:its} destra",
        "above": "sopra",
        "below": "sotto",
    }
    sides = {"left": "a sinistra", "right": "a destra", "above": "in alto", "below": "in basso"}
    places = {
        "night": "di notte",
        "grass": "sull'erba",
        "beach": "sulla spiaggia",
        "snow": "nella neve",
        "water": "nell'acqua",
    }
    pictures = {
        "left": "nell'immagine a sinistra",
        "right": "nell'immagine a destra",
        "both": "in entrambe le immagini",
        "one": "in una sola immagine",
    }
    questions = {
        "colour": "di che colore {a:are} {a:the}",
        "count": "{a:how_many} ci sono",
        "thing": "che cosa c'è {side}",
        "side": "{a:where} {a:the}",
        "exists": "{a:is} {a}",
    }
    agreeing = {
        "are": {"one": "è", "many": "sono"},
        "where": {"one": "dov'è", "many": "dove sono"},
        "is": {"one": "c'è", "many": "ci sono"},
        "sees": {"one": "vede", "many": "vedono"},
        "its": {"one": "sua", "many": "loro"},
    }

    def number_word(self, gender: str, count: int, noun: str) -> str:
        word = super().number_word(gender, count, noun)
        return "un'" if word == "una" and noun[0] in "aeiou" else word

    def article(self, gender: str, plural: bool, noun: str) -> str:
        if noun[0] in "aeiou" and (not plural or gender == "m"):
            return "gli" if plural else "l'"
        return super().article(gender, plural, noun)
