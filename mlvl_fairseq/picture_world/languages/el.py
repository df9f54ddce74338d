"""Greek: three genders; the numbers one, three and four have a gender too."""

from mlvl_fairseq.picture_world.languages.base import Language, register_language, table
from mlvl_fairseq.picture_world.scenes import Group

# gender, singular, plural; feminine and neuter nouns without article look the same in nominative and accusative
NOUNS = table("""
    star     n αστέρι     αστέρια
    heart    f καρδιά     καρδιές
    moon     n φεγγάρι    φεγγάρια
    ball     f μπάλα      μπάλες
    house    n σπίτι      σπίτια
    tree     n δέντρο     δέντρα
    flower   n λουλούδι   λουλούδια
    apple    n μήλο       μήλα
    fish     n ψάρι       ψάρια
    cat      f γάτα       γάτες
    bird     n πουλί      πουλιά
    boat     f βάρκα      βάρκες
    car      n αυτοκίνητο αυτοκίνητα
    cup      f κούπα      κούπες
    key      n κλειδί     κλειδιά
    umbrella f ομπρέλα    ομπρέλες
""")
# feminine, neuter, feminine plural, neuter plural
COLOURS = table("""
    red    κόκκινη   κόκκινο   κόκκινες  κόκκινα
    orange πορτοκαλί πορτοκαλί πορτοκαλί πορτοκαλί
    yellow κίτρινη   κίτρινο   κίτρινες  κίτρινα
    green  πράσινη   πράσινο   πράσινες  πράσινα
    blue   μπλε      μπλε      μπλε      μπλε
    purple μοβ       μοβ       μοβ       μοβ
    white  άσπρη     άσπρο     άσπρες    άσπρα
    black  μαύρη     μαύρο     μαύρες    μαύρα
""")
ARTICLES = {"f": ("η", "οι"), "n": ("το", "τα")}
HOW_MANY = {"f": "πόσες", "n": "πόσα"}
NUMBERS = {"f": ("μια", "δύο", "τρεις", "τέσσερις"), "n": ("ένα", "δύο", "τρία", "τέσσερα")}


@register_language
class Greek(Language):
    code, name = "el", "ελληνικά"
    question_marks = ("", ";")
    single = {
        "phrase": "{a}",
        "picture": "μια εικόνα με {a}",
        "exists": "{a:is} {a}",
        "place": "{place} {a:is} {a}",
        "see": "βλέπουμε {a}",
    }
    pair = {
        "phrase": "{a} {relation}",
        "picture": "μια εικόνα με {a} {relation}",
        "exists": "{a:is} {a} και {adverb} {a:its} {b}",
        "place": "{place} {a:is} {a} {relation}",
        "see": "βλέπουμε {a} {relation}",
        "sides": "{side_a} {a}, {side_b} {b}",
    }
    relations = {
        "left": "αριστερά από {b}",
        "right": "δεξιά από {b}",
        "above": "πάνω από {b}",
        "below": "κάτω από {b}",
    }
    adverbs = {"left": "στα αριστερά", "right": "στα δεξιά", "above": "από πάνω", "below": "από κάτω"}
    sides = {"left": "αριστερά", "right": "δεξιά", "above": "πάνω", "below": "κάτω"}
    places = {
        "night": "τη νύχτα",
        "grass": "στο γρασίδι",
        "beach": "στην παραλία",
        "snow": "στο χιόνι",
        "water": "στο νερό",
    }
    pictures = {
        "left": "στην αριστερή εικόνα",
        "right": "στη δεξιά εικόνα",
        "both": "και στις δύο εικόνες",
        "one": "μόνο στη μία εικόνα",
    }
    questions = {
        "colour": "τι χρώμα {a:has} {a:the}",
        "count": "{a:how_many} υπάρχουν",
        "thing": "τι υπάρχει {side}",
        "side": "πού είναι {a:the}",
        "exists": "{a:is} {a}",
    }
    agreeing = {
        "has": {"f": "έχει", "n": "έχει", "many": "έχουν"},
        "is": {"f": "υπάρχει", "n": "υπάρχει", "many": "υπάρχουν"},
        "its": {"f": "της", "n": "του", "many": "τους"},
    }

    def agreement(self, group: Group) -> str:
        return NOUNS[group.kind][0] if group.count == 1 else "many"

    def noun_phrase(self, group: Group, form: str) -> str:
        gender, *nouns = NOUNS[group.kind]
        plural = group.count > 1
        colour = COLOURS[group.colour][2 * plural + (gender == "n")]
        return f"{NUMBERS[gender][group.count - 1]} {colour} {nouns[plural]}"

    def noun(self, group: Group, form: str) -> str:
        gender, *nouns = NOUNS[group.kind]
        if form == "how_many":
            return f"{HOW_MANY[gender]} {nouns[1]}"
        plural = group.count > 1
        return f"{ARTICLES[gender][plural]} {nouns[plural]}"
