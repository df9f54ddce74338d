"""Portuguese (Brazil): "two" has a gender too."""

from mlvl_fairseq.picture_world.languages.base import register_language, table
from mlvl_fairseq.picture_world.languages.romance import RomanceLanguage
from mlvl_fairseq.picture_world.scenes import Group


@register_language
class Portuguese(RomanceLanguage):
    code, name = "pt", "português"
    nouns = table("""
        star     f estrela      estrelas
        heart    m coração      corações
        moon     f lua          luas
        ball     f bola         bolas
        house    f casa         casas
        tree     f árvore       árvores
        flower   f flor         flores
        apple    f maçã         maçãs
        fish     m peixe        peixes
        cat      m gato         gatos
        bird     m pássaro      pássaros
        boat     m barco        barcos
        car      m carro        carros
        cup      f xícara       xícaras
        key      f chave        chaves
        umbrella m guarda-chuva guarda-chuvas
    """)
    colours = table("""
        red    vermelho vermelha vermelhos vermelhas
        orange laranja  laranja  laranja   laranja
        yellow amarelo  amarela  amarelos  amarelas
        green  verde    verde    verdes    verdes
        blue   azul     azul     azuis     azuis
        purple roxo     roxa     roxos     roxas
        white  branco   branca   brancos   brancas
        black  preto    preta    pretos    pretas
    """)
    numbers = {"m": ("um", "dois", "três", "quatro"), "f": ("uma", "duas", "três", "quatro")}
    articles = {"m": ("o", "os"), "f": ("a", "as")}
    how_many = {"m": "quantos", "f": "quantas"}
    single = {
        "phrase": "{a}",
        "picture": "uma imagem de {a}",
        "exists": "há {a}",
        "place": "{place} há {a}",
        "see": "{a:sees} {a}",
    }
    pair = {
        "phrase": "{a} {relation}",
        "picture": "uma imagem de {a} {relation}",
        "exists": "há {a} e, {adverb} {a:of_it}, {b}",
        "place": "{place} há {a} {relation}",
        "see": "{a:sees} {a} {relation}",
        "sides": "{side_a}, {a}; {side_b}, {b}",
    }
    relations = {
        "left": "à esquerda de {b}",
        "right": "à direita de {b}",
        "above": "acima de {b}",
        "below": "abaixo de {b}",
    }
    adverbs = {"left": "à esquerda", "right": "à direita", "above": "acima", "below": "abaixo"}
    sides = {"left": "à esquerda", "right": "à direita", "above": "em cima", "below": "embaixo"}
    places = {
        "night": "à noite",
        "grass": "na grama",
        "beach": "na praia",
        "snow": "na neve",
        "water": "na água",
    }
    pictures = {
        "left": "na imagem da esquerda",
        "right": "na imagem da direita",
        "both": "em ambas as imagens",
        "one": "em apenas uma imagem",
    }
    questions = {
        "colour": "de que cor {a:is} {a:the}",
        "count": "{a:how_many} há",
        "thing": "o que há {side}",
        "side": "onde {a:stands} {a:the}",
        "exists": "há {a}",
    }
    agreeing = {
        "is": {"m": "é", "f": "é", "mm": "são", "ff": "são"},
        "stands": {"m": "está", "f": "está", "mm": "estão", "ff": "estão"},
        "sees": {"m": "vê-se", "f": "vê-se", "mm": "veem-se", "ff": "veem-se"},
        "of_it": {"m": "dele", "f": "dela", "mm": "deles", "ff": "delas"},
    }

    def agreement(self, group: Group) -> str:
        """The gender, doubled in the plural."""
        return self.gender(group) * (1 if group.count == 1 else 2)
