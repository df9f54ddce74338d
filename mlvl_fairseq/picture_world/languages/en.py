"""English."""

from mlvl_fairseq.picture_world.languages.base import Language, register_language, table
from mlvl_fairseq.picture_world.scenes import Group

PLURALS = table("""
    star stars
    heart hearts
    moon moons
    ball balls
    house houses
    tree trees
    flower flowers
    apple apples
    fish fish
    cat cats
    bird birds
    boat boats
    car cars
    cup cups
    key keys
    umbrella umbrellas
""")
NUMBERS = {2: "two", 3: "three", 4: "four"}


@register_language
class English(Language):
    code, name = "en", "English"
    single = {
        "phrase": "{a}",
        "picture": "a picture of {a}",
        "exists": "there {a:is} {a}",
        "place": "{place} there {a:is} {a}",
        "see": "you can see {a}",
    }
    pair = {
        "phrase": "{a} {relation}",
        "picture": "a picture of {a} {relation}",
        "exists": "there {a:is} {a}, and {adverb} {b}",
        "place": "{place} there {a:is} {a} {relation}",
        "see": "you can see {a} {relation}",
        "sides": "{side_a}, {a}; {side_b}, {b}",
    }
    relations = {
        "left": "to the left of {b}",
        "right": "to the right of {b}",
        "above": "above {b}",
        "below": "below {b}",
    }
    adverbs = {
        "left": "to the left of {a:it}",
        "right": "to the right of {a:it}",
        "above": "above {a:it}",
        "below": "below {a:it}",
    }
    sides = {"left": "on the left", "right": "on the right", "above": "at the top", "below": "at the bottom"}
    places = {
        "night": "at night",
        "grass": "on the grass",
        "beach": "on the beach",
        "snow": "in the snow",
        "water": "in the water",
    }
    pictures = {
        "left": "in the left picture",
        "right": "in the right picture",
        "both": "in both pictures",
        "one": "in exactly one picture",
    }
    questions = {
        "colour": "what colour {a:is} {a:the}",
        "count": "{a:how_many} are there",
        "thing": "what is {side}",
        "side": "where {a:is} {a:the}",
        "exists": "{a:is} there {a}",
    }
    agreeing = {"is": {"one": "is", "many": "are"}, "it": {"one": "it", "many": "them"}}

    def noun_phrase(self, group: Group, form: str) -> str:
        if group.count == 1:
            article = "an" if group.colour[0] in "aeiou" else "a"
            return f"{article} {group.colour} {group.kind}"
        (plural,) = PLURALS[group.kind]
        return f"{NUMBERS[group.count]} {group.colour} {plural}"

    def noun(self, group: Group, form: str) -> str:
        (plural,) = PLURALS[group.kind]
        if form == "how_many":
            return f"how many {plural}"
        return f"the {group.kind if group.count == 1 else plural}"
