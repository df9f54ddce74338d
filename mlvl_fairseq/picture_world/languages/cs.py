"""Czech: after 2, 3 and 4 number, adjective and noun agree in case; animate masculines have forms of their own."""

from mlvl_fairseq.picture_world.languages.base import Language, register_language, table
from mlvl_fairseq.picture_world.scenes import Group

# gender (a: animate masculine), then nominative, genitive, accusative, instrumental of singular and plural
NOUNS = table("""
    star     f hvězda   hvězdy   hvězdu   hvězdou   hvězdy   hvězd     hvězdy   hvězdami
    heart    n srdce    srdce    srdce    srdcem    srdce    srdcí     srdce    srdci
    moon     m měsíc    měsíce   měsíc    měsícem   měsíce   měsíců    měsíce   měsíci
    ball     m míč      míče     míč      míčem     míče     míčů      míče     míči
    house    m dům      domu     dům      domem     domy     domů      domy     domy
    tree     m strom    stromu   strom    stromem   stromy   stromů    stromy   stromy
    flower   f květina  květiny  květinu  květinou  květiny  květin    květiny  květinami
    apple    n jablko   jablka   jablko   jablkem   jablka   jablek    jablka   jablky
    fish     f ryba     ryby     rybu     rybou     ryby     ryb       ryby     rybami
    cat      f kočka    kočky    kočku    kočkou    kočky    koček     kočky    kočkami
    bird     a pták     ptáka    ptáka    ptákem    ptáci    ptáků     ptáky    ptáky
    boat     f loďka    loďky    loďku    loďkou    loďky    loděk     loďky    loďkami
    car      n auto     auta     auto     autem     auta     aut       auta     auty
    cup      m šálek    šálku    šálek    šálkem    šálky    šálků     šálky    šálky
    key      m klíč     klíče    klíč     klíčem    klíče    klíčů     klíče    klíči
    umbrella m deštník  deštníku deštník  deštníkem deštníky deštníků  deštníky deštníky
""")
# stem, animate nominative plural
COLOURS = table("""
    red    červen  červení
    orange oranžov oranžoví
    yellow žlut    žlutí
    green  zelen   zelení
    blue   modr    modří
    purple fialov  fialoví
    white  bíl     bílí
    black  čern    černí
""")
CASES = ("nom", "gen", "acc", "ins")
SINGULAR_ENDINGS = {
    "m": {"nom": "ý", "gen": "ého", "acc": "ý", "ins": "ým"},
    "a": {"nom": "ý", "gen": "ého", "acc": "ého", "ins": "ým"},
    "f": {"nom": "á", "gen": "é", "acc": "ou", "ins": "ou"},
    "n": {"nom": "é", "gen": "ého", "acc": "é", "ins": "ým"},
}
PLURAL_ENDINGS = {"m": "é", "a": "é", "f": "é", "n": "á"}  # nominative and accusative
NUMBERS = {
    "nom": {2: "dva", 3: "tři", 4: "čtyři"},
    "acc": {2: "dva", 3: "tři", 4: "čtyři"},
    "gen": {2: "dvou", 3: "tří", 4: "čtyř"},
    "ins": {2: "dvěma", 3: "třemi", 4: "čtyřmi"},
}


@register_language
class Czech(Language):
    code, name = "cs", "čeština"
    single = {
        "phrase": "{a:nom}",
        "picture": "na obrázku {a:is} {a:nom}",
        "exists": "{a:is} tu {a:nom}",
        "place": "{place} {a:is} {a:nom}",
        "see": "vidíme {a:acc}",
    }
    pair = {
        "phrase": "{a:nom} {relation}",
        "picture": "na obrázku {a:is} {a:nom} {relation}",
        "exists": "{a:is} tu {a:nom} a {adverb} {b:nom}",
        "place": "{place} {a:is} {a:nom} {relation}",
        "see": "vidíme {a:acc} {relation}",
        "sides": "{side_a} {a:nom}, {side_b} {b:nom}",
    }
    relations = {
        "left": "nalevo od {b:gen}",
        "right": "napravo od {b:gen}",
        "above": "nad {b:ins}",
        "below": "pod {b:ins}",
    }
    adverbs = {
        "left": "nalevo od {a:it_gen}",
        "right": "napravo od {a:it_gen}",
        "above": "nad {a:it_ins}",
        "below": "pod {a:it_ins}",
    }
    sides = {"left": "vlevo", "right": "vpravo", "above": "nahoře", "below": "dole"}
    places = {
        "night": "v noci",
        "grass": "na trávě",
        "beach": "na pláži",
        "snow": "na sněhu",
        "water": "ve vodě",
    }
    pictures = {
        "left": "na levém obrázku",
        "right": "na pravém obrázku",
        "both": "na obou obrázcích",
        "one": "jen na jednom obrázku",
    }
    questions = {
        "colour": "jakou barvu {a:has} {a:the}",
        "count": "{a:how_many} tu je",
        "thing": "co je {side}",
        "side": "kde {a:is} {a:the}",
        "exists": "{a:is} tu {a:nom}",
    }
    agreeing = {
        "has": {"m": "má", "a": "má", "f": "má", "n": "má", "many": "mají"},
        "is": {"m": "je", "a": "je", "f": "je", "n": "je", "many": "jsou"},
        "it_gen": {"m": "něj", "a": "něj", "f": "ní", "n": "něj", "many": "nich"},
        "it_ins": {"m": "ním", "a": "ním", "f": "ní", "n": "ním", "many": "nimi"},
    }

    def agreement(self, group: Group) -> str:
        return NOUNS[group.kind][0] if group.count == 1 else "many"

    def noun_phrase(self, group: Group, form: str) -> str:
        gender, *forms = NOUNS[group.kind]
        case = CASES.index(form)
        if group.count == 1:
            return f"{COLOURS[group.colour][0]}{SINGULAR_ENDINGS[gender][form]} {forms[case]}"
        number = NUMBERS[form][group.count]
        if number == "dva" and gender in "fn":
            number = "dvě"
        return f"{number} {_plural_colour(group.colour, gender, form)} {forms[len(CASES) + case]}"

    def noun(self, group: Group, form: str) -> str:
        _, *forms = NOUNS[group.kind]
        if form == "how_many":
            return f"kolik {forms[len(CASES) + CASES.index('gen')]}"
        return forms[len(CASES) * (group.count > 1)]


def _plural_colour(colour: str, gender: str, form: str) -> str:
    stem, animate = COLOURS[colour]
    if form == "nom" and gender == "a":
        return animate
    return stem + {"gen": "ých", "ins": "ými"}.get(form, PLURAL_ENDINGS[gender])
