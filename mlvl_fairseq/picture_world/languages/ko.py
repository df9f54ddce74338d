"""Korean: noun, number and counter in this order; the subject particle follows the sound of the counter."""

from mlvl_fairseq.picture_world.languages.base import Language, register_language, table
from mlvl_fairseq.picture_world.scenes import Group

# noun, counter
NOUNS = table("""
    star     별     개
    heart    하트   개
    moon     달     개
    ball     공     개
    house    집     채
    tree     나무   그루
    flower   꽃     송이
    apple    사과   개
    fish     물고기 마리
    cat      고양이 마리
    bird     새     마리
    boat     배     척
    car      자동차 대
    cup      컵     개
    key      열쇠   개
    umbrella 우산   개
""")
COLOURS = {
    "red": "빨간",
    "orange": "주황색",
    "yellow": "노란",
    "green": "초록색",
    "blue": "파란",
    "purple": "보라색",
    "white": "하얀",
    "black": "까만",
}
NUMBERS = {1: "한", 2: "두", 3: "세", 4: "네"}
FIRST_SYLLABLE, FINAL_CONSONANTS = ord("가"), 28


@register_language
class Korean(Language):
    code, name = "ko", "한국어"
    single = {
        "phrase": "{a}",
        "picture": "{a:subject} 있는 그림",
        "exists": "{a:subject} 있습니다",
        "place": "{place} {a:subject} 있습니다",
        "see": "{a:subject} 보입니다",
    }
    pair = {
        "phrase": "{relation} {a}",
        "picture": "{relation} {a:subject} 있는 그림",
        "exists": "{a:subject} 있고, 그 {adverb} {b:subject} 있습니다",
        "place": "{place} {relation} {a:subject} 있습니다",
        "see": "{relation} {a:subject} 보입니다",
        "sides": "{side_a} {a}, {side_b} {b}",
    }
    relations = {"left": "{b} 왼쪽에", "right": "{b} 오른쪽에", "above": "{b} 위에", "below": "{b} 아래에"}
    adverbs = {"left": "왼쪽에", "right": "오른쪽에", "above": "위에", "below": "아래에"}
    sides = adverbs
    places = {"night": "밤에는", "grass": "풀밭에는", "beach": "해변에는", "snow": "눈밭에는", "water": "물속에는"}
    pictures = {
        "left": "왼쪽 그림에는",
        "right": "오른쪽 그림에는",
        "both": "두 그림 모두에",
        "one": "한 그림에만",
    }
    questions = {
        "colour": "{a:the} 무슨 색입니까",
        "count": "{a:how_many} 있습니까",
        "thing": "{side} 무엇이 있습니까",
        "side": "{a:the} 어디에 있습니까",
        "exists": "{a:subject} 있습니까",
    }

    def noun_phrase(self, group: Group, form: str) -> str:
        noun, counter = NOUNS[group.kind]
        particle = _subject_particle(counter) if form == "subject" else ""
        return f"{COLOURS[group.colour]} {noun} {NUMBERS[group.count]} {counter}{particle}"

    def noun(self, group: Group, form: str) -> str:
        noun, counter = NOUNS[group.kind]
        if form == "how_many":
            return f"{noun}{_subject_particle(noun)} 몇 {counter}"
        return noun + ("은" if _ends_in_consonant(noun) else "는")


def _subject_particle(word: str) -> str:
    """이 after a syllable that ends in a consonant, 가 after a vowel."""
    return "이" if _ends_in_consonant(word) else "가"


def _ends_in_consonant(word: str) -> bool:
    """Unicode orders syllables by their final."""
    return bool((ord(word[-1]) - FIRST_SYLLABLE) % FINAL_CONSONANTS)
