"""Hindi: two genders; nouns and colours before a postposition stand in the oblique case."""

from mlvl_fairseq.picture_world.languages.base import Language, register_language, table
from mlvl_fairseq.picture_world.scenes import Group

# gender, direct singular, direct plural, oblique singular, oblique plural
NOUNS = table("""
    star     m तारा   तारे      तारे    तारों
    heart    m दिल    दिल      दिल    दिलों
    moon     m चाँद    चाँद      चाँद    चाँदों
    ball     f गेंद    गेंदें      गेंद    गेंदों
    house    m घर    घर       घर     घरों
    tree     m पेड़    पेड़       पेड़     पेड़ों
    flower   m फूल    फूल      फूल    फूलों
    apple    m सेब    सेब      सेब    सेबों
    fish     f मछली   मछलियाँ   मछली   मछलियों
    cat      f बिल्ली   बिल्लियाँ   बिल्ली   बिल्लियों
    bird     f चिड़िया  चिड़ियाँ   चिड़िया  चिड़ियों
    boat     f नाव    नावें      नाव    नावों
    car      f गाड़ी   गाड़ियाँ   गाड़ी   गाड़ियों
    cup      m प्याला  प्याले     प्याले   प्यालों
    key      f चाबी   चाबियाँ   चाबी   चाबियों
    umbrella m छाता   छाते      छाते    छातों
""")
# masculine direct singular, other masculines, feminine
COLOURS = table("""
    red    लाल    लाल    लाल
    orange नारंगी  नारंगी  नारंगी
    yellow पीला   पीले    पीली
    green  हरा    हरे     हरी
    blue   नीला   नीले    नीली
    purple बैंगनी  बैंगनी  बैंगनी
    white  सफ़ेद   सफ़ेद   सफ़ेद
    black  काला   काले    काली
""")
NUMBERS = {1: "एक", 2: "दो", 3: "तीन", 4: "चार"}


@register_language
class Hindi(Language):
    code, name = "hi", "हिन्दी"
    stop = "।"
    single = {
        "phrase": "{a:direct}",
        "picture": "एक चित्र जिसमें {a:direct} {a:is}",
        "exists": "यहाँ {a:direct} {a:is}",
        "place": "{place} {a:direct} {a:is}",
        "see": "{a:direct} दिखाई {a:gives}",
    }
    pair = {
        "phrase": "{relation} {a:direct}",
        "picture": "एक चित्र जिसमें {relation} {a:direct} {a:is}",
        "exists": "यहाँ {a:direct} {a:is} और {a:its} {adverb} {b:direct} {b:is}",
        "place": "{place} {relation} {a:direct} {a:is}",
        "see": "{relation} {a:direct} दिखाई {a:gives}",
        "sides": "{side_a} {a:direct}, {side_b} {b:direct}",
    }
    relations = {
        "left": "{b:oblique} के बाईं ओर",
        "right": "{b:oblique} के दाईं ओर",
        "above": "{b:oblique} के ऊपर",
        "below": "{b:oblique} के नीचे",
    }
    adverbs = {"left": "बाईं ओर", "right": "दाईं ओर", "above": "ऊपर", "below": "नीचे"}
    sides = adverbs
    places = {
        "night": "रात में",
        "grass": "घास पर",
        "beach": "समुद्र तट पर",
        "snow": "बर्फ़ पर",
        "water": "पानी में",
    }
    pictures = {
        "left": "बाएँ चित्र में",
        "right": "दाएँ चित्र में",
        "both": "दोनों चित्रों में",
        "one": "केवल एक चित्र में",
    }
    questions = {
        "colour": "{a:the_of} का रंग क्या है",
        "count": "यहाँ {a:how_many} हैं",
        "thing": "{side} क्या है",
        "side": "{a:the} कहाँ {a:is}",
        "exists": "क्या यहाँ {a:direct} {a:is}",
    }
    agreeing = {
        "is": {"m": "है", "f": "है", "mm": "हैं", "ff": "हैं"},
        "gives": {"m": "देता है", "f": "देती है", "mm": "देते हैं", "ff": "देती हैं"},
        "its": {"m": "उसके", "f": "उसके", "mm": "उनके", "ff": "उनके"},
    }

    def agreement(self, group: Group) -> str:
        """The gender, doubled in the plural."""
        return NOUNS[group.kind][0] * (1 if group.count == 1 else 2)

    def noun_phrase(self, group: Group, form: str) -> str:
        gender, *nouns = NOUNS[group.kind]
        plural, oblique = group.count > 1, form == "oblique"
        masculine, masculine_other, feminine = COLOURS[group.colour]
        if gender == "f":
            colour = feminine
        else:
            colour = masculine_other if plural or oblique else masculine
        return f"{NUMBERS[group.count]} {colour} {nouns[2 * oblique + plural]}"

    def noun(self, group: Group, form: str) -> str:
        gender, *nouns = NOUNS[group.kind]
        if form == "how_many":
            return f"{'कितनी' if gender == 'f' else 'कितने'} {nouns[1]}"
        return nouns[2 * (form == "the_of") + (group.count > 1)]
