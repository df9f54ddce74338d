"""Japanese: counters, and a verb "to be" that depends on whether its subject is alive."""

from mlvl_fairseq.picture_world.languages.base import Language, register_language, table
from mlvl_fairseq.picture_world.scenes import Group

# counter, noun
NOUNS = table("""
    star     つ 星
    heart    つ ハート
    moon     つ 月
    ball     個 ボール
    house    軒 家
    tree     本 木
    flower   本 花
    apple    個 りんご
    fish     匹 魚
    cat      匹 猫
    bird     羽 鳥
    boat     隻 船
    car      台 車
    cup      個 カップ
    key      本 鍵
    umbrella 本 傘
""")
ANIMALS = ("fish", "cat", "bird")
COLOURS = {
    "red": "赤い",
    "orange": "オレンジ色の",
    "yellow": "黄色い",
    "green": "緑色の",
    "blue": "青い",
    "purple": "紫色の",
    "white": "白い",
    "black": "黒い",
}
HOW_MANY = "何"
HOW_MANY_THINGS = "いくつ"  # of things with the general counter
NUMBERS = {1: "一", 2: "二", 3: "三", 4: "四"}


@register_language
class Japanese(Language):
    code, name = "ja", "日本語"
    stop = "。"
    question_marks = ("", "。")
    single = {
        "phrase": "{a}",
        "picture": "{a}が{a:is}絵",
        "exists": "{a}が{a:is_politely}",
        "place": "{place}には{a}が{a:is_politely}",
        "see": "{a}が見えます",
    }
    pair = {
        "phrase": "{relation}に{a}",
        "picture": "{relation}に{a}が{a:is}絵",
        "exists": "{a}が{a:is_and}、その{adverb}に{b}が{b:is_politely}",
        "place": "{place}には、{relation}に{a}が{a:is_politely}",
        "see": "{relation}に{a}が見えます",
        "sides": "{side_a}に{a}、{side_b}に{b}",
    }
    relations = {"left": "{b}の左", "right": "{b}の右", "above": "{b}の上", "below": "{b}の下"}
    adverbs = {"left": "左", "right": "右", "above": "上", "below": "下"}
    sides = adverbs
    places = {"night": "夜", "grass": "草の上", "beach": "砂浜", "snow": "雪の中", "water": "水の中"}
    pictures = {"left": "左の絵", "right": "右の絵", "both": "両方の絵", "one": "片方の絵だけ"}
    questions = {
        "colour": "{a:the}は何色ですか",
        "count": "{a:how_many}{a:is_politely}か",
        "thing": "{side}に見えるのは何ですか",
        "side": "{a:the}はどこに{a:is_politely}か",
        "exists": "{a}が{a:is_politely}か",
    }
    agreeing = {
        "is": {"thing": "ある", "animal": "いる"},
        "is_and": {"thing": "あり", "animal": "いて"},
        "is_politely": {"thing": "あります", "animal": "います"},
    }

    def agreement(self, group: Group) -> str:
        return "animal" if group.kind in ANIMALS else "thing"

    def noun_phrase(self, group: Group, form: str) -> str:
        counter, noun = NOUNS[group.kind]
        return f"{NUMBERS[group.count]}{counter}の{COLOURS[group.colour]}{noun}"

    def noun(self, group: Group, form: str) -> str:
        counter, noun = NOUNS[group.kind]
        if form != "how_many":
            return noun
        return f"{noun}は{HOW_MANY_THINGS if counter == 'つ' else HOW_MANY + counter}"
