"""Open-vocabulary values: the names, towns and pet names that the dialogues are about.

The model must *copy* what it is told, never pick from a list. So nearly all values are made up on
the spot, by generators that differ as much as possible (syllables of several flavours, random
letters, accents, hyphens, apostrophes, two words, digits); real names are only a spice.

Held-out values are disjoint from training by construction: a hash of the value decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from random import Random

ONSETS = (
    "b c d f g h j k l m n p r s t v w x y z ch sh th br dr kr tr gr fl gl pl sl st sp sk zh kh ph"
    " qu wh bl cl cr fr pr ts ng ny sn sm sw tw zv vl mr"
).split()
VOWELS = "a e i o u a e i o u ai ei au ou ia io ee oo y ae ue oa".split()
CODAS = (
    "n r s l t m k x th nd rt st ck ng x z v d b p g f sh ll nn ss rn lk mp w h rk ld nt ch tz"
).split()
ACCENTED = "áàâäãåæéèêëíìîïóòôöøõúùûüýñçßšžčřłśźżğışțőűāēīōūđþð"
REAL = (
    "Alan Alex Alice Amelia Amir Ana Anders Anna Anne Antonio Aisha Arjun Astrid Beatrice Ben"
    " Bella Bob Boris Bruno Carla Carlos Chen Chloe Clara Daniel David Diego Dmitri Edgar Elena"
    " Elif Ella Emil Emma Erik Eva Fatima Felix Finn Frida Gabriel George Grace Hana Hannah Hans"
    " Helen Henry Hugo Ibrahim Igor Ines Ingrid Isaac Ivan Jack Jacob Jane Jan Jasmine Jo Joan"
    " John Julia Kai Karim Kate Kenji Klaus Lara Laura Lea Leo Lena Li Lily Linda Lina Liu Lou"
    " Luca Lucy Luis Luna Maja Marco Maria Mark Martin Mary Matteo Max Maya Mei Mia Michael Mila"
    " Milo Mina Mohammed Mona Nadia Nina Noah Nora Oleg Olga Oliver Omar Oscar Otto Pablo Paul"
    " Pedro Peter Petra Priya Quinn Rachel Raj Rosa Rose Ruth Sam Samir Sara Sarah Selma Sofia"
    " Sophie Stella Sven Tariq Theo Thomas Tim Tom Uma Vera Victor Viktor Wei William Yara Yuki"
    " Yusuf Zara Zoe Rex Bello Fido Rocky Buddy Charlie Coco Daisy Lucky Simba Nemo Minka Whiskers"
    " Paris London Berlin Madrid Rome Oslo Lima Cairo Delhi Tokyo Kyoto Lagos Accra Turin Porto"
    " Ghent Basel Graz Brno Lyon Nice York Leeds Bath Cork Austin Boston Denver Quito Hanoi Seoul"
    " Dakar Tunis Amman Perth Sydney Toronto Kobe Osaka Pune Vienna Zurich Munich Hamburg Prague"
    " Warsaw Lisbon Sevilla Bergen Malmo Turku Riga Vilnius Sofia Athens Izmir Ankara Tbilisi"
).split()
SUFFIXES = (
    "ville ton burg ham field ford stad wick dorf heim berg port mouth by grad ia polis abad haven"
    " pur bridge wood minster shire holm vik nes"
).split()
SECOND = (
    "Bay Hill City Falls Springs Beach Park Valley Lake Creek Point Harbor Rock Heights".split()
)
FIRST = "San Santa New Port Saint Los Las El La Le Den Fort Mount North South East West Old".split()

NOUNS = (
    "car|house|book|table|chair|door|window|garden|river|mountain|bridge|train|plane|bicycle|bus"
    "|ship|boat|road|street|market|shop|bank|school|museum|church|castle|tower|hotel|kitchen|bed"
    "|lamp|phone|computer|screen|keyboard|camera|radio|clock|watch|ring|coat|shirt|shoe|hat|bag"
    "|box|bottle|cup|glass|plate|knife|spoon|apple|banana|orange|lemon|tomato|potato|carrot|onion"
    "|sandwich|cake|egg|meal|dinner|breakfast|recipe|letter|email|poem|story|song|film|picture"
    "|painting|photo|map|plan|list|report|essay|joke|riddle|question|problem|test|exam|lesson"
    "|function|class|script|parser|program|server|database|file|folder|button|loop|variable|array"
    "|number|word|sentence|language|country|planet|star|moon|cloud|storm|tree|flower|leaf|forest"
    "|island|lake|ocean|beach|desert|sheep|cow|lion|tiger|bear|whale|eagle|bee|dragon|robot|ghost"
    "|king|queen|doctor|teacher|lawyer|painter|pilot|farmer|singer|actor|writer|machine|engine"
    "|battery|rocket|guitar|piano|drum|game|toy|ball|team|ticket|flight|price|coin|bill|tax|job"
    "|office|meeting|holiday|party|wedding|birthday|gift|dream|idea|reason|secret|rule|law|war"
).split("|")
"""Ordinary words: subjects of small talk, and pet names."""

Maker = Callable[[Random], str]


FRAGMENTS = (
    "ab about ad ae again ai ain ait al all also am ame an and ank answers ant ar ara are ary "
    "as ase ask at au ave ay ba backend base based be beyond bird bo born bot bridge budgie "
    "bunny by bye ca cach cache cal call called can canary cannot cat ce ch city ck ckend co "
    "code come compu compute costs cpp cribe day de demo did do does dog doing du duck ea "
    "each eak ee eet efine ei el ell ello en end eople er ere ers es escribe et evening ex "
    "exa example explain ey eyond fa family far fer ferret fi file fine first fish for forget "
    "forgot format friend friends fro frog from fu ful full gain ge geck gecko get gh give gl "
    "glad go going good got great grew gu guinea ha hamster has hat have he hear hei hel "
    "hello help helpful here hey hi hich his ho home horse house how hu hy ia ice ick id in "
    "ind ine inea ing io ion ird is ise ist it its ity ive just kay ke kee keep keeps ken "
    "kept key keys kh kit kitten know known la lad lama lan langu langua later ld ldfish le "
    "lease led let li like little live lived lives living lizard lk ll llama lo loa load "
    "loade loaded lu ly ma mat may mb me mean meet memb member mi mily mind mm mo mod model "
    "models mor more morning mouse moved mp mple mpu mster much my myself na name named nat "
    "native nd ne near new ng nice ning nn no not note now nown nswer nt ny oa ob of often "
    "okay on ond one only oo ood ople or ord ordin orn orry orse ort ou ould our ouse out ow "
    "own par paren parents parrot part people pet ph pi pie piece pig pl pla place plain ple "
    "please pleased pon pony port portab pp program pt puppy qu quick ra rab rabb rabbit rat "
    "rd re read reads real reat rec recall record ree rei remind reside ret rew ri ribe rid "
    "ridge riend righ right rio rite rk rn ro roa rog rogra rogram roo rot rou row rowsers "
    "rst rt ru run runs ry sa saf safe sand sandbo saved say se see sel self sers session set "
    "sh short should si side sk sm sn sna snake so sp speak spid spider ss sse ssemb ssembly "
    "ssion ssist st stay ster sti still sts sw sweet swer swers ta talk talking te tell ten "
    "tention ter terfa terface ters test text th thank thanks that the them then there thing "
    "this tin ting tings tiny tion tle to toise token tokens told tor town tro trodu troduce "
    "ts ttle tur turn turtle tw tz uch ud udg udgi udgie ue uest uestion um umma ummari un "
    "unit unny up upp uppy ur us use user ust ut val value values ve ved ven vening ver versa "
    "very vi ving vl vo voc vocab vocabu wa wait want was wasm way ways we wei weigh weights "
    "wel welcome well what where which who whose wi will with wn wond wonder wor word words "
    "work would write writes wro wrong xes xplain xt yet you your yth ything ython zar zard "
    "ze zv "
).split()
"""Word-internal tokens of the tokenizer: each must be copied in a value, however rare it is in one."""


RESERVED = frozenset(
    "zorblax xiomara nguyen bartholomew søren ada bo josé zoë o'brien anne-marie mcdonald r2d2"
    " siobhan wolfgang priyanka kwame ngozi björk dvořák renée jean-luc 田中 иван quetzalcoatl"
    " tallinn reykjavík timbuktu ouagadougou llanfair são&paulo new&york saint-étienne köln łódź"
    " x'anadu kyiv winterfell zürich o'fallon buxtehude rivendell smallville ulaanbaatar"
    " mr.&whiskers bucephalus pixel schnurrli biscuit snowball t-bone lord&fluff ziggy 3po mochi"
    " garfield włóczykij fluffy&two bjørn kiki rocinante".split()
)
"""Real and famous values kept for the hand-written evaluation (& stands for a space)."""


def held_out(value: str) -> bool:
    """True for values that training never sees: an eighth of all, whatever their case."""
    if value.casefold().replace(" ", "&") in RESERVED:
        return True
    return hashlib.sha256(value.casefold().encode()).digest()[0] % 8 == 0


def _syllables(rng: Random, low: int, high: int) -> str:
    text = ""
    for _ in range(rng.randint(low, high)):
        onset = "" if rng.random() < 0.15 else rng.choice(ONSETS)
        text += onset + rng.choice(VOWELS)
        if rng.random() < 0.35:
            text += rng.choice(CODAS)
    return text[:14] if len(text) > 1 else text + rng.choice("aeionkt")


def _plain(rng: Random) -> str:
    return _syllables(rng, rng.choice((1, 2, 2)), 3).capitalize()


def _long(rng: Random) -> str:
    return _syllables(rng, 3, 4).capitalize()


def _letters(rng: Random) -> str:
    return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))).capitalize()


def _real(rng: Random) -> str:
    return rng.choice(REAL)


def _word(rng: Random) -> str:
    """Ordinary words, used as pet names."""
    word = rng.choice(NOUNS).capitalize()
    style = rng.random()
    if style < 0.6:
        return word
    if style < 0.8:
        return rng.choice(("Lord ", "Lady ", "Mr. ", "Little ", "Sir ", "Old ", "Princess ")) + word
    return word + rng.choice((" ", "-", "")) + rng.choice(NOUNS).capitalize()


def _mutated(rng: Random) -> str:
    """A real name with a letter or two changed: close to what people know, yet never seen."""
    letters = list(rng.choice(REAL))
    for _ in range(rng.randint(1, 2)):
        at = rng.randrange(1, len(letters))
        letter = rng.choice("abcdefghijklmnopqrstuvwxyz")
        letters[at : at + rng.randint(0, 1)] = letter if rng.random() < 0.8 else letter * 2
    return "".join(letters)


def _spliced(rng: Random) -> str:
    """The head of one real name and the tail of another."""
    head, tail = rng.choice(REAL), rng.choice(REAL).lower()
    return head[: rng.randint(1, len(head))] + tail[rng.randint(0, len(tail) - 1) :]


def _accented(rng: Random) -> str:
    letters = list(rng.choice((_plain, _real, _mutated))(rng))
    for _ in range(rng.randint(1, 2)):
        at = rng.randrange(len(letters))
        mark = rng.choice(ACCENTED)
        letters[at] = mark.upper() if at == 0 and len(mark.upper()) == 1 else mark
    return "".join(letters)


def _hyphen(rng: Random) -> str:
    half = (_plain, _real, _mutated, _accented)
    return rng.choice(half)(rng) + "-" + rng.choice(half)(rng)


def _apostrophe(rng: Random) -> str:
    head = rng.choice(["O'", "D'", "L'", "M'", "N'", "Mc", "Mac", "Fitz", "Al-", "De", "Van", "Di"])
    return head + rng.choice((_plain, _real))(rng)


def _two_words(rng: Random) -> str:
    word = (_plain, _real, _mutated, _letters)
    style = rng.random()
    if style < 0.2:
        return rng.choice(FIRST) + " " + rng.choice(word)(rng)
    if style < 0.4:
        return rng.choice(word)(rng) + " " + rng.choice(SECOND)
    if style < 0.5:
        middle = rng.choice((" de ", " van ", " of ", " the ", " de la ", " von ", " al ", " & "))
        return rng.choice(word)(rng) + middle + rng.choice(word)(rng)
    if style < 0.55:
        return rng.choice(("Mr. ", "Dr. ", "St. ", "Mrs. ")) + rng.choice(word)(rng)
    return rng.choice(word)(rng) + " " + rng.choice((*word, _apostrophe))(rng)


def _digits(rng: Random) -> str:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    style = rng.random()
    if style < 0.4:
        return "".join(rng.choice(letters) + str(rng.randint(0, 99)) for _ in range(2))
    if style < 0.7:
        return _plain(rng) + str(rng.randint(0, 9999))
    if style < 0.85:
        return _plain(rng) + rng.choice("_-") + str(rng.randint(0, 99))
    return rng.choice(letters) + "-" + str(rng.randint(1, 999))


def _place(rng: Random) -> str:
    return (_syllables(rng, 1, 2) + rng.choice(SUFFIXES)).capitalize()


def _script(rng: Random) -> str:
    """Other alphabets: for the model a series of bytes, to copy like any other."""
    low, high = rng.choice(((0x430, 0x44F), (0x3B1, 0x3C9), (0x4E00, 0x9FA5), (0x3042, 0x3093)))
    text = "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(2, 6)))
    return text.capitalize()


def _fragments(rng: Random) -> str:
    """Whole tokens in any order, so that none is known from ordinary words alone."""
    return "".join(rng.choices(FRAGMENTS, k=rng.randint(1, 4)))[:14].capitalize()


def _camel(rng: Random) -> str:
    return _plain(rng) + _plain(rng)


MAKERS: tuple[tuple[Maker, float], ...] = (
    (_plain, 24),
    (_long, 4),
    (_letters, 10),
    (_real, 9),
    (_word, 4),
    (_mutated, 12),
    (_spliced, 9),
    (_accented, 6),
    (_hyphen, 4),
    (_apostrophe, 4),
    (_two_words, 7),
    (_digits, 3),
    (_place, 5),
    (_camel, 1),
    (_script, 1.5),
    (_fragments, 8),
)
NAME_LIKE = tuple((maker, weight) for maker, weight in MAKERS if maker is not _fragments)
"""Values as people use them. The fragments are a drill: nobody is called Shouldset."""

Makers = tuple[tuple[Maker, float], ...]


def value(rng: Random, *, from_held_out: bool = False, makers: Makers = MAKERS) -> str:
    """A value of 2 to 18 characters from the training part, or from the held-out part."""
    weights = [weight for _, weight in makers]
    while True:
        maker = rng.choices(makers, weights)[0][0]
        text = maker(rng)
        style = rng.random()
        if style < 0.1:
            text = text.lower()
        elif style < 0.14:
            text = text.upper()
        if 2 <= len(text) <= 18 and held_out(text) == from_held_out:
            return text
