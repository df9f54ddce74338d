"""Arabic (modern standard, unvocalised).

One: the bare noun. Two: the dual of noun and colour. Three and four: the numeral in the opposite gender, the noun in
the plural, and the colour in the feminine singular, as always with plurals of things and animals.
"""

from mlvl_fairseq.picture_world.languages.base import Language, register_language, table
from mlvl_fairseq.picture_world.scenes import Group

# gender of the singular, singular, plural
NOUNS = table("""
    star     f نجمة  نجوم
    heart    m قلب   قلوب
    moon     m قمر   أقمار
    ball     f كرة   كرات
    house    m بيت   بيوت
    tree     f شجرة  أشجار
    flower   f زهرة  زهور
    apple    f تفاحة تفاحات
    fish     f سمكة  سمكات
    cat      f قطة   قطط
    bird     m طائر  طيور
    boat     m قارب  قوارب
    car      f سيارة سيارات
    cup      m كوب   أكواب
    key      m مفتاح مفاتيح
    umbrella f مظلة  مظلات
""")
# masculine, feminine
COLOURS = table("""
    red    أحمر    حمراء
    orange برتقالي برتقالية
    yellow أصفر    صفراء
    green  أخضر    خضراء
    blue   أزرق    زرقاء
    purple بنفسجي  بنفسجية
    white  أبيض    بيضاء
    black  أسود    سوداء
""")
# gender of the noun -> numeral; masculine nouns take the one with the feminine ending
NUMBERS = {3: {"m": "ثلاثة", "f": "ثلاث"}, 4: {"m": "أربعة", "f": "أربع"}}
DUAL = {"nom": "ان", "gen": "ين", "acc": "ين"}
FEMININE_ENDINGS = {"ة": "ت", "اء": "او"}  # and what they become before the ending of the dual
TANWIN = "ًا"  # the indefinite accusative ending that is written
DIPTOTE = "أ"  # colours of the pattern of "red" begin with it and take no such ending


@register_language
class Arabic(Language):
    code, name = "ar", "العربية"
    question_marks = ("", "؟")
    single = {
        "phrase": "{a:nom}",
        "picture": "صورة فيها {a:nom}",
        "exists": "هناك {a:nom}",
        "place": "{place} هناك {a:nom}",
        "see": "نرى {a:acc}",
    }
    pair = {
        "phrase": "{a:nom} {relation}",
        "picture": "صورة فيها {a:nom} {relation}",
        "exists": "هناك {a:nom}، و{adverb}{a:it} {b:nom}",
        "place": "{place} هناك {a:nom} {relation}",
        "see": "نرى {a:acc} {relation}",
        "sides": "{side_a} {a:nom}، و{side_b} {b:nom}",
    }
    relations = {
        "left": "على يسار {b:gen}",
        "right": "على يمين {b:gen}",
        "above": "فوق {b:gen}",
        "below": "تحت {b:gen}",
    }
    adverbs = {"left": "على يسار", "right": "على يمين", "above": "فوق", "below": "تحت"}
    sides = {"left": "على اليسار", "right": "على اليمين", "above": "في الأعلى", "below": "في الأسفل"}
    places = {
        "night": "في الليل",
        "grass": "على العشب",
        "beach": "على الشاطئ",
        "snow": "على الثلج",
        "water": "في الماء",
    }
    pictures = {
        "left": "في الصورة اليسرى",
        "right": "في الصورة اليمنى",
        "both": "في كلتا الصورتين",
        "one": "في صورة واحدة فقط",
    }
    questions = {
        "colour": "ما لون {a:the_of}",
        "count": "{a:how_many} هناك",
        "thing": "ماذا يوجد {side}",
        "side": "أين {a:the}",
        "exists": "هل هناك {a:nom}",
    }
    agreeing = {"it": {"m": "ه", "f": "ها", "dual": "هما", "many": "ها"}}

    def agreement(self, group: Group) -> str:
        return {1: NOUNS[group.kind][0], 2: "dual"}.get(group.count, "many")

    def noun_phrase(self, group: Group, form: str) -> str:
        gender, singular, plural = NOUNS[group.kind]
        masculine, feminine = COLOURS[group.colour]
        if group.count > 2:
            return f"{NUMBERS[group.count][gender]} {plural} {feminine}"
        decline = _singular if group.count == 1 else _dual
        return f"{decline(singular, form)} {decline(feminine if gender == 'f' else masculine, form)}"

    def noun(self, group: Group, form: str) -> str:
        _, singular, plural = NOUNS[group.kind]
        if form == "how_many":
            return f"كم {_singular(singular, 'acc')}"
        if group.count > 2:
            return f"ال{plural}"
        return f"ال{singular if group.count == 1 else _dual(singular, 'gen' if form == 'the_of' else 'nom')}"


def _singular(word: str, form: str) -> str:
    """An indefinite noun or adjective; only some masculines show their accusative in writing."""
    if form != "acc" or word.endswith(tuple(FEMININE_ENDINGS)) or word.startswith(DIPTOTE):
        return word
    return word + TANWIN


def _dual(word: str, form: str) -> str:
    for ending, before_dual in FEMININE_ENDINGS.items():
        if word.endswith(ending):
            word = word.removesuffix(ending) + before_dual
    return word + DUAL[form]
