"""Chinese: no inflection, but every noun has its measure word."""

from mlvl_fairseq.picture_world.languages.base import Language, register_language, table
from mlvl_fairseq.picture_world.scenes import Group

# measure word, noun
NOUNS = table("""
    star     颗 星星
    heart    颗 心
    moon     个 月亮
    ball     个 球
    house    座 房子
    tree     棵 树
    flower   朵 花
    apple    个 苹果
    fish     条 鱼
    cat      只 猫
    bird     只 鸟
    boat     艘 船
    car      辆 汽车
    cup      个 杯子
    key      把 钥匙
    umbrella 把 雨伞
""")
COLOURS = {
    "red": "红色",
    "orange": "橙色",
    "yellow": "黄色",
    "green": "绿色",
    "blue": "蓝色",
    "purple": "紫色",
    "white": "白色",
    "black": "黑色",
}
NUMBERS = {1: "一", 2: "两", 3: "三", 4: "四"}


@register_language
class Chinese(Language):
    code, name = "zh", "中文"
    stop = "。"
    question_marks = ("", "？")
    single = {
        "phrase": "{a}",
        "picture": "一张图片，图中有{a}",
        "exists": "这里有{a}",
        "place": "{place}有{a}",
        "see": "可以看到{a}",
    }
    pair = {
        "phrase": "{a}在{relation}",
        "picture": "一张图片，图中{a}在{relation}",
        "exists": "这里有{a}，{a:it}的{adverb}有{b}",
        "place": "{place}，{relation}有{a}",
        "see": "可以看到{relation}有{a}",
        "sides": "{side_a}是{a}，{side_b}是{b}",
    }
    relations = {"left": "{b}的左边", "right": "{b}的右边", "above": "{b}的上方", "below": "{b}的下方"}
    adverbs = {"left": "左边", "right": "右边", "above": "上方", "below": "下方"}
    sides = {"left": "左边", "right": "右边", "above": "上面", "below": "下面"}
    places = {"night": "夜里", "grass": "草地上", "beach": "沙滩上", "snow": "雪地上", "water": "水里"}
    pictures = {
        "left": "左边的图片里",
        "right": "右边的图片里",
        "both": "两张图片里都",
        "one": "只有一张图片里",
    }
    questions = {
        "colour": "{a:the}是什么颜色的",
        "count": "这里有{a:how_many}",
        "thing": "{side}是什么",
        "side": "{a:the}在哪里",
        "exists": "这里有{a}吗",
    }
    agreeing = {"it": {"one": "它", "many": "它们"}}

    def noun_phrase(self, group: Group, form: str) -> str:
        measure, noun = NOUNS[group.kind]
        return f"{NUMBERS[group.count]}{measure}{COLOURS[group.colour]}的{noun}"

    def noun(self, group: Group, form: str) -> str:
        measure, noun = NOUNS[group.kind]
        return f"几{measure}{noun}" if form == "how_many" else noun
