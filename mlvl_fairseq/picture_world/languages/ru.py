"""Russian: after 2, 3 and 4 the noun stands in the genitive singular, in the other cases in the plural."""

from mlvl_fairseq.picture_world.languages.base import Language, register_language, table
from mlvl_fairseq.picture_world.scenes import Group

# gender; singular: nominative, genitive, instrumental; plural: genitive, instrumental, nominative
NOUNS = table("""
    star     f звезда  звезды  звездой  звёзд    звёздами    звёзды
    heart    n сердце  сердца  сердцем  сердец   сердцами    сердца
    moon     f луна    луны    луной    лун      лунами      луны
    ball     m мяч     мяча    мячом    мячей    мячами      мячи
    house    m дом     дома    домом    домов    домами      дома
    tree     n дерево  дерева  деревом  деревьев деревьями   деревья
    flower   m цветок  цветка  цветком  цветков  цветками    цветы
    apple    n яблоко  яблока  яблоком  яблок    яблоками    яблоки
    fish     f рыба    рыбы    рыбой    рыб      рыбами      рыбы
    cat      f кошка   кошки   кошкой   кошек    кошками     кошки
    bird     f птица   птицы   птицей   птиц     птицами     птицы
    boat     f лодка   лодки   лодкой   лодок    лодками     лодки
    car      f машина  машины  машиной  машин    машинами    машины
    cup      f чашка   чашки   чашкой   чашек    чашками     чашки
    key      m ключ    ключа   ключом   ключей   ключами     ключи
    umbrella m зонт    зонта   зонтом   зонтов   зонтами     зонты
""")
# stem, declension
COLOURS = table("""
    red    красн    hard
    orange оранжев  hard
    yellow жёлт     hard
    green  зелён    hard
    blue   син      soft
    purple фиолетов hard
    white  бел      hard
    black  чёрн     hard
""")
ENDINGS = {
    "hard": {
        "nom": {"m": "ый", "f": "ая", "n": "ое"},
        "gen": {"m": "ого", "f": "ой", "n": "ого", "many": "ых"},
        "ins": {"m": "ым", "f": "ой", "n": "ым", "many": "ыми"},
        # "две красные звезды", but "два красных дома"
        "counted": {"m": "ых", "f": "ые", "n": "ых"},
    },
    "soft": {
        "nom": {"m": "ий", "f": "яя", "n": "ее"},
        "gen": {"m": "его", "f": "ей", "n": "его", "many": "их"},
        "ins": {"m": "им", "f": "ей", "n": "им", "many": "ими"},
        "counted": {"m": "их", "f": "ие", "n": "их"},
    },
}
NUMBERS = {
    "nom": {2: "два", 3: "три", 4: "четыре"},
    "gen": {2: "двух", 3: "трёх", 4: "четырёх"},
    "ins": {2: "двумя", 3: "тремя", 4: "четырьмя"},
}


@register_language
class Russian(Language):
    code, name = "ru", "русский"
    single = {
        "phrase": "{a:nom}",
        "picture": "на картинке {a:nom}",
        "exists": "здесь {a:nom}",
        "place": "{place} {a:nom}",
        "see": "{a:seen} {a:nom}",
    }
    pair = {
        "phrase": "{a:nom} {relation}",
        "picture": "на картинке {a:nom} {relation}",
        "exists": "здесь {a:nom}, а {adverb} {b:nom}",
        "place": "{place} {a:nom} {relation}",
        "see": "{a:seen} {a:nom} {relation}",
        "sides": "{side_a} {a:nom}, {side_b} {b:nom}",
    }
    relations = {
        "left": "слева от {b:gen}",
        "right": "справа от {b:gen}",
        "above": "над {b:ins}",
        "below": "под {b:ins}",
    }
    adverbs = {
        "left": "слева от {a:it_gen}",
        "right": "справа от {a:it_gen}",
        "above": "над {a:it_ins}",
        "below": "под {a:it_ins}",
    }
    sides = {"left": "слева", "right": "справа", "above": "сверху", "below": "снизу"}
    places = {
        "night": "ночью",
        "grass": "на траве",
        "beach": "на пляже",
        "snow": "на снегу",
        "water": "в воде",
    }
    pictures = {
        "left": "на левой картинке",
        "right": "на правой картинке",
        "both": "на обеих картинках",
        "one": "только на одной картинке",
    }
    questions = {
        "colour": "какого цвета {a:the}",
        "count": "{a:how_many} здесь",
        "thing": "что {side}",
        "side": "где {a:the}",
        "exists": "есть ли здесь {a:nom}",
    }
    agreeing = {
        "seen": {"m": "виден", "f": "видна", "n": "видно", "many": "видны"},
        "it_gen": {"m": "него", "f": "неё", "n": "него", "many": "них"},
        "it_ins": {"m": "ним", "f": "ней", "n": "ним", "many": "ними"},
    }

    def agreement(self, group: Group) -> str:
        return NOUNS[group.kind][0] if group.count == 1 else "many"

    def noun_phrase(self, group: Group, form: str) -> str:
        gender, nominative, genitive, instrumental, genitive_plural, instrumental_plural, _ = NOUNS[group.kind]
        stem, declension = COLOURS[group.colour]
        endings = ENDINGS[declension]
        if group.count == 1:
            noun = {"nom": nominative, "gen": genitive, "ins": instrumental}[form]
            return f"{stem}{endings[form][gender]} {noun}"
        number = NUMBERS[form][group.count]
        if form == "nom":
            number = "две" if number == "два" and gender == "f" else number
            return f"{number} {stem}{endings['counted'][gender]} {genitive}"
        noun = {"gen": genitive_plural, "ins": instrumental_plural}[form]
        return f"{number} {stem}{endings[form]['many']} {noun}"

    def noun(self, group: Group, form: str) -> str:
        _, singular, _, _, genitive_plural, _, plural = NOUNS[group.kind]
        if form == "how_many":
            return f"сколько {genitive_plural}"
        return singular if group.count == 1 else plural
