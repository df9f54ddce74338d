"""French: "de" is elided before "un" and "une"."""

from mlvl_fairseq.picture_world.languages.base import register_language, table
from mlvl_fairseq.picture_world.languages.romance import RomanceLanguage
from mlvl_fairseq.picture_world.scenes import Group

VOWELS = "aeiouéœ"


@register_language
class French(RomanceLanguage):
    code, name = "fr", "français"
    nouns = table("""
        star     f étoile    étoiles
        heart    m cœur      cœurs
        moon     f lune      lunes
        ball     m ballon    ballons
        house    f maison    maisons
        tree     m arbre     arbres
        flower   f fleur     fleurs
        apple    f pomme     pommes
        fish     m poisson   poissons
        cat      m chat      chats
        bird     m oiseau    oiseaux
        boat     m bateau    bateaux
        car      f voiture   voitures
        cup      f tasse     tasses
        key      f clé       clés
        umbrella m parapluie parapluies
    """)
    colours = table("""
        red    rouge  rouge    rouges  rouges
        orange orange orange   orange  orange
        yellow jaune  jaune    jaunes  jaunes
        green  vert   verte    verts   vertes
        blue   bleu   bleue    bleus   bleues
        purple violet violette violets violettes
        white  blanc  blanche  blancs  blanches
        black  noir   noire    noirs   noires
    """)
    numbers = {"m": ("un", "deux", "trois", "quatre"), "f": ("une", "deux", "trois", "quatre")}
    articles = {"m": ("le", "les"), "f": ("la", "les")}
    question_marks = ("", "\N{NO-BREAK SPACE}?")
    single = {
        "phrase": "{a}",
        "picture": "une image {a:de}",
        "exists": "il y a {a}",
        "place": "{place}, il y a {a}",
        "see": "on voit {a}",
    }
    pair = {
        "phrase": "{a} {relation}",
        "picture": "une image {a:de} {relation}",
        "exists": "il y a {a} et, {adverb}, {b}",
        "place": "{place}, il y a {a} {relation}",
        "see": "on voit {a} {relation}",
        "sides": "{side_a} {a}, {side_b} {b}",
    }
    relations = {
        "left": "à gauche {b:de}",
        "right": "à droite {b:de}",
        "above": "au-dessus {b:de}",
        "below": "en dessous {b:de}",
    }
    adverbs = {
        "left": "à {a:its} gauche",
        "right": "à {a:its} droite",
        "above": "au-dessus",
        "below": "en dessous",
    }
    sides = {"left": "à gauche", "right": "à droite", "above": "en haut", "below": "en bas"}
    places = {
        "night": "la nuit",
        "grass": "sur l'herbe",
        "beach": "sur la plage",
        "snow": "dans la neige",
        "water": "dans l'eau",
    }
    pictures = {
        "left": "sur l'image de gauche",
        "right": "sur l'image de droite",
        "both": "sur les deux images",
        "one": "sur une seule image",
    }
    questions = {
        "colour": "de quelle couleur {a:is} {a:the}",
        "count": "{a:how_many} y a-t-il",
        "thing": "qu'y a-t-il {side}",
        "side": "où {a:is} {a:the}",
        "exists": "y a-t-il {a}",
    }
    agreeing = {
        "is": {"one": "est", "many": "sont"},
        "its": {"one": "sa", "many": "leur"},
    }

    def noun_phrase(self, group: Group, form: str) -> str:
        phrase = super().noun_phrase(group, form)
        if form != "de":
            return phrase
        return f"d'{phrase}" if group.count == 1 else f"de {phrase}"

    def noun(self, group: Group, form: str) -> str:
        if form != "how_many":
            return super().noun(group, form)
        plural = self.nouns[group.kind][2]
        return f"combien d'{plural}" if plural[0] in VOWELS else f"combien de {plural}"

    def article(self, gender: str, plural: bool, noun: str) -> str:
        return "l'" if noun[0] in VOWELS and not plural else super().article(gender, plural, noun)
