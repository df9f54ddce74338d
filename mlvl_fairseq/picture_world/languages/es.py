"""Spanish."""

from mlvl_fairseq.picture_world.languages.base import register_language, table
from mlvl_fairseq.picture_world.languages.romance import RomanceLanguage


@register_language
class Spanish(RomanceLanguage):
    code, name = "es", "español"
    nouns = table("""
        star     f estrella estrellas
        heart    m corazón  corazones
        moon     f luna     lunas
        ball     f pelota   pelotas
        house    f casa     casas
        tree     m árbol    árboles
        flower   f flor     flores
        apple    f manzana  manzanas
        fish     m pez      peces
        cat      m gato     gatos
        bird     m pájaro   pájaros
        boat     m barco    barcos
        car      m coche    coches
        cup      f taza     tazas
        key      f llave    llaves
        umbrella m paraguas paraguas
    """)
    colours = table("""
        red    rojo     roja     rojos     rojas
        orange naranja  naranja  naranjas  naranjas
        yellow amarillo amarilla amarillos amarillas
        green  verde    verde    verdes    verdes
        blue   azul     azul     azules    azules
        purple morado   morada   morados   moradas
        white  blanco   blanca   blancos   blancas
        black  negro    negra    negros    negras
    """)
    numbers = {"m": ("un", "dos", "tres", "cuatro"), "f": ("una", "dos", "tres", "cuatro")}
    articles = {"m": ("el", "los"), "f": ("la", "las")}
    how_many = {"m": "cuántos", "f": "cuántas"}
    question_marks = ("¿", "?")
    single = {
        "phrase": "{a}",
        "picture": "una imagen de {a}",
        "exists": "hay {a}",
        "place": "{place} hay {a}",
        "see": "se {a:sees} {a}",
    }
    pair = {
        "phrase": "{a} {relation}",
        "picture": "una imagen de {a} {relation}",
        "exists": "hay {a} y, {adverb}, {b}",
        "place": "{place} hay {a} {relation}",
        "see": "se {a:sees} {a} {relation}",
        "sides": "{side_a}, {a}; {side_b}, {b}",
    }
    relations = {
        "left": "a la izquierda de {b}",
        "right": "a la derecha de {b}",
        "above": "encima de {b}",
        "below": "debajo de {b}",
    }
    adverbs = {"left": "a su izquierda", "right": "a su derecha", "above": "encima", "below": "debajo"}
    sides = {"left": "a la izquierda", "right": "a la derecha", "above": "arriba", "below": "abajo"}
    places = {
        "night": "de noche",
        "grass": "en la hierba",
        "beach": "en la playa",
        "snow": "en la nieve",
        "water": "en el agua",
    }
    pictures = {
        "left": "en la imagen izquierda",
        "right": "en la imagen derecha",
        "both": "en ambas imágenes",
        "one": "en una sola imagen",
    }
    questions = {
        "colour": "de qué color {a:is} {a:the}",
        "count": "{a:how_many} hay",
        "thing": "qué hay {side}",
        "side": "dónde {a:stands} {a:the}",
        "exists": "hay {a}",
    }
    agreeing = {
        "is": {"one": "es", "many": "son"},
        "stands": {"one": "está", "many": "están"},
        "sees": {"one": "ve", "many": "ven"},
    }
