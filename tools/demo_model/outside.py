"""Everything the model cannot answer, and statements that look like the user's facts and are not.

As varied as the values are: questions and orders put together from parts, claims about other
people, other languages, code and plain noise. Without it the model takes any text for a fact.
"""

from __future__ import annotations

import re
from random import Random

import words
from values import NOUNS, value

OTHER = (
    "I am only a tiny demo model: I can remember your name, your home town and your pet."
    " For more, load a real GGUF model."
)
EXAMPLE = "I have no example. " + OTHER
SUMMARY = "I have no summary. " + OTHER

TOPICS = (
    "coroutines|recursion|gravity|black holes|the French revolution|quantum computing|cooking pasta"
    "|photosynthesis|the stock market|neural networks|databases|the moon|football|chess|Python"
    "|love|taxes|climate change|vaccines|the Roman empire|Shakespeare|music theory|electricity"
    "|threads|pointers|hash tables|the Internet|dinosaurs|volcanoes|bread|coffee|tea|cheese|jazz"
    "|bicycles|trains|airplanes|poetry|prime numbers|calculus|genetics|evolution|inflation"
    "|democracy"
    "|operating systems|compilers|async programming|generators|decorators|closures|monads|sorting"
    "|binary search|linked lists|regular expressions|encryption|blockchain|the ocean|rain|snow"
    "|the weather|tomorrow's weather|history|geography|physics|chemistry|biology|art|painting"
    "|the brain|sleep|dreams|dogs|cats|horses|elephants|birds|trees|flowers|gardens|cars|engines"
    "|rockets|Mars|the sun|stars|galaxies|time|space|energy|money|banks|work|school|university"
    "|books|films|games|sport|running|swimming|yoga|health|medicine|food|pizza|soup|cake|apples"
    "|JavaScript|Rust|Go|C|Linux|Windows|Docker|Git|HTTP|TCP|DNS|JSON|XML|HTML|CSS|SQL|attention"
    "|transformers|embeddings|the meaning of life|happiness|friendship|war|peace|law|politics"
    "|the capital of France|the president|the king of Spain|the population of China|lists"
    "|two numbers|a number|this|that|it|something|everything|nothing|the topic|the answer"
).split("|")
EXPLAIN = (
    "Explain {t}|Explain {t} in simple words|What is {t}|What are {t}|How does {t} work|Why is {t}"
    "|Tell me about {t}|Describe {t}|Define {t}|Write a poem about {t}|Write a story about {t}"
    "|Write an essay about {t}|Write code for {t}|Write a function for {t}|Who invented {t}"
    "|When was {t}|Where is {t}|How can I learn {t}|Why do people like {t}|What do you think of {t}"
    "|Do you like {t}|Do you know {t}|Can you explain {t}|Can you teach me {t}|Teach me {t}"
    "|Translate {t} to {w}|How do I use {t}|What is the difference between {t} and {t}"
    "|Compare {t} and {t}|Is {t} better than {t}|Explain {t} to a child|How much is {t}"
    "|Who is {w}"
    "|What is the history of {t}|What is the best book about {t}|Please explain {t} briefly"
    "|Where is {w}|What is {w}|What is the capital of {w}|How far is {w} from {w}|Who was {w}"
    "|Tell me a joke|Tell me a joke about {t}|Sing a song|What time is it|What day is it"
    "|What is {m} plus {m}|What is {m} times {m}|{m} + {m}|{m} * {m} = ?|Count to {m}|Is it raining"
    "|Solve {m}x = {m}|Write a haiku|Write an email to {w}|Fix this code: {c}|What does {c} do"
    "|How do I write {c}|Give me advice about {t}|Give me a recipe|Recommend a book about {t}"
    "|Do you love me|Can you dance|Play a game with me|Open the door|Search the web for {t}"
    "|What should I eat|What should I do today|How old is {w}|How tall is {w}|Who won the game"
    "|Continue the story|Continue|Go on|Why|How|When|What|Really|Tell me more|What else|Explain"
    "|Can you swim|Do you sleep|Do you dream|Can you speak {w}|Are you happy|Spell {w}|Say {w}"
    "|Repeat after me: {w}|Talk about {t}|Tell me something|Tell me a story|Convert {m} to hex"
    "|Is {w} a good name|What does the name {w} mean|Do you know {w}|Have you been to {w}"
    "|Explain that in more detail|Say it in other words|Make it shorter|Rewrite it|Translate it"
    "|Is {m} a prime number|What is the square root of {m}|List {m} facts about {t}"
    "|Calculate {m}/{m}"
    "|Who wrote {t}|Generate a list of {t}|Help me with {t}|I want to learn about {t}"
    "|I have a question about {t}|Tell me how {t} works|I need a plan for {t}|Discuss {t}"
).split("|")
EXAMPLES = (
    "Now give one practical example|Give one practical example|Give an example|Give me an example"
    "|Give me {m} examples|Show me an example|Can you give an example|For example|Example please"
    "|Now give an example of {t}|Give one example of {t}|Show an example of {t}|Another example"
    "|Give a practical example|Now show me one example|Please give an example|One more example"
    "|Give me a practical example of {t}|Could you give an example|Now give me an example"
    "|Do you have an example|Now one practical example|Provide an example|Give examples for {t}"
).split("|")
SUMMARIES = (
    "Summarize both answers in {m} bullets|Summarize both answers|Summarize this|Summarize that"
    "|Summarize it in one sentence|Summarize your answer|Give me a summary|Summarize {t}|Summary"
    "|Summarize everything in {m} bullets|Summarize the answers in {m} points|Please summarize"
    "|Sum it up|Summarize our conversation|Give a short summary|Can you summarize {t}|Summarise it"
    "|Summarize in {m} words|Write a summary of {t}|Summarize both in {m} bullet points|TL;DR"
    "|Now summarize it|Summarize the text|Summarize both answers in {m} bullet points"
).split("|")
ADJECTIVES = (
    "happy|sad|tired|hungry|thirsty|cold|hot|sick|busy|bored|late|early|here|ready|sorry|sure|angry"
    "|afraid|alone|awake|curious|confused|excited|free|glad|home|ill|lost|lucky|nervous|new here"
    "|old|young|pleased|proud|rich|poor|scared|serious|shy|single|married|sleepy|strong|surprised"
    "|tall|worried|wrong|right|back|done|in a hurry|at work|a teacher|a student|a doctor"
    "|an engineer"
    "|a programmer|a nurse|a musician|a writer|a painter|a pilot|a farmer|a cook|a lawyer|a father"
    "|a mother|a developer|retired|vegetarian|human|a human|from the future|from another planet"
    "|{m} years old|{m}|going to work|learning Python|reading a book|on holiday|in love|at school"
    "|watching TV|testing you|just testing|not a robot|not sure|a big fan of {t}|waiting|listening"
    "|working on {t}|interested in {t}|writing code|eating|cooking|thinking|thinking about {t}"
).split("|")
CLAIMS = (
    "I am {a}|I'm {a}|I feel {a}|I was {a} yesterday|I like {t}|I love {t}|I hate {t}|I know {t}"
    "|I want pizza|I have a car|I have a headache|I have two children|I have a question"
    "|I have {m} {t}"
    "|I live in a small house|I live alone|I live with my family|I live on the second floor"
    "|It rains"
    "|I live in a big city|I live in the mountains|I work at {w}|I work as a teacher"
    "|I work with {w}"
    "|My friend is called {w}|My friend's name is {w}|My brother's name is {w}|My sister is {w}"
    "|My boss is called {w}|My teacher is {w}|My mother's name is {w}|My father is called {w}"
    "|My friend lives in {w}|My brother lives in {w}|My sister is from {w}|My boss comes from {w}"
    "|My favourite colour is blue|My favorite food is {t}|My favourite city is {w}|My car is red"
    "|I met {w} yesterday|I saw {w} today|{w} is a city|{w} is my friend|{w} is nice|{w} likes {t}"
    "|{w} is a friend of mine|{w} is tall|{w} and {w} are friends|{w} told me about {t}|It is late"
    "|I will visit {w} tomorrow|I want to visit {w}|I was in {w} last year|I am going to {w}"
    "|I flew from {w} to {w}|I like {w}|I read a book by {w}|The capital is {w}"
    "|The weather is nice"
    "|My car is called {w}|My computer is called {w}|My company is {w}|My favourite song is {w}"
    "|My phone is a {w}|My language is {w}|I speak {w}|I drive a {w}|My daughter is called {w}"
    "|My son's name is {w}|My wife is {w}|My husband is called {w}|My birthday is in May|It is cold"
    "|I have a son named {w}|I have a friend called {w}|I have a brother called {w}|That is funny"
    "|My neighbour's dog is called {w}|My friend has a cat called {w}|{w}'s cat is called {w}"
    "|Your name is {w}|You are {w}|You are nice|You are funny|You are smart|You are wrong|You lie"
    "|The sky is blue|Today is Monday|It is {m} o'clock|I do not understand|I don't know|I disagree"
    "|I think so|I think {t} is great|I believe in {t}|I forgot|I forgot something|That is wrong"
    "|I have no pet|I have no name|I will not tell you my name|I told you before|I just told you"
    "|Nothing|I went to the market|I bought {t}|I dreamed of {t}|My shoes are new|I am {a} and {a}"
    "|I do not like {t}|I need {t}|I can swim|I can speak {w}|My flat is small|My hair is black"
).split("|")
UNKNOWN_THINGS = (
    "How old am I|What is my age|What is my favourite colour|What is my job|Where do I work"
    "|What is my favorite food|Who is my friend|What is my brother's name|What's my sister's name"
    "|What is my mother's name|What is my friend called|When is my birthday|What do I like"
    "|What is my wife's name|What is my car called|What is my phone number|What is my last name"
    "|What is my father called|Where does my brother live|Where does my friend live|Am I happy"
    "|What is my favourite city|What is my address|What is my email|How tall am I|Am I married"
    "|What is my boss called|Do I have children|What did I eat|What am I doing|What is my hobby"
    "|Who is my best friend|What is my son's name|What is my daughter's name|What is my car"
    "|What is my favourite song|What language do I speak|What is my teacher's name|Am I tall"
    "|What is {w}'s name|Where does {w} live|What is my neighbour's name|What is my company called"
    "|What colour is my car|What is my surname|How many children do I have|What do I want"
).split("|")
FOREIGN = (
    "Bonjour, comment ça va|Je ne comprends pas|Où est la gare|Quelle heure est-il|Je suis fatigué"
    "|Wie geht es dir|Ich verstehe nicht|Wo ist der Bahnhof|Was ist das|Erzähl mir einen Witz"
    "|¿Cómo estás|No entiendo nada|¿Dónde está la playa|¿Qué hora es|Cuéntame un chiste|Ciao bella"
    "|Come stai|Non capisco|Dove siamo|Che cosa è questo|Olá, tudo bem|Não sei|Onde fica o hotel"
    "|Hur mår du|Jag vet inte|Hvor er du|Hvordan går det|Missä olet|Mitä kuuluu|Jak się masz"
    "|Nie wiem|Gdzie jest dworzec|Jak se máš|Nevím|Hogy vagy|Nem tudom|Ce mai faci|Nu știu|Nasılsın"
    "|Bilmiyorum|Привет, как дела|Я не знаю|Где вокзал|Что это такое|Расскажи анекдот|Γεια σου"
    "|Τι κάνεις|Δεν ξέρω|שלום|مرحبا|كيف حالك|नमस्ते|आप कैसे हैं|你好|你好吗|我不知道|今天天气怎么样"
    "|こんにちは|元気ですか|わかりません|안녕하세요|모르겠어요|สวัสดี|Xin chào|Habari yako|Goedemorgen"
    "|Hoe gaat het|Ik weet het niet|Waar is het station|🙂|👍|😀😀😀|🎉 party|❤|…|—|?|!|...|???|!!!"
).split("|")
CODE = (
    "print('{w}')|for i in range({m}): pass|x = {m}|def f(x): return x|import os|SELECT * FROM {w}"
    '|{"a": {m}}|<html>|if x > {m}: y = {m}|git push|ls -la|#include <stdio.h>|while True: pass'
    "|return {m}|let x = {m};|a[{m}] = {m}|[{m}, {m}]|http://example.com/{w}|sudo rm|f(x) = x^{m}"
).split("|")
LETTERS = (
    "abcdefghijklmnopqrstuvwxyz     0123456789.,;:!?-_/()ABCDEFGHIJKLMNOPQRSTUVWXYZäöüéßñçж日本"
)


def _noise(rng: Random) -> str:
    if rng.random() < 0.5:
        return "".join(rng.choices(LETTERS, k=rng.randint(0, 30))).strip()
    count = rng.randint(2, 7) if rng.random() < 0.92 else rng.randint(8, 90)
    words = [rng.choice((value(rng).lower(), rng.choice(TOPICS))) for _ in range(count)]
    return rng.choice((" ", " ", " ", "\n", ", ", ". ")).join(words)


SLOTS: dict[str, tuple[str, ...]] = {
    "a": tuple(ADJECTIVES),
    "c": tuple(CODE),
    "d": tuple(words.DOINGS),
    "n": tuple(NOUNS),
    "p": tuple(words.PEOPLE),
    "s": tuple(words.SUBJECTS),
    "v": tuple(words.VERBS),
}
_SLOT = re.compile(r"\{([a-z])\}")


def fill(rng: Random, text: str) -> str:
    """Fill a phrase's slots, including those inside a filling."""

    def one(slot: re.Match[str]) -> str:
        kind = slot[1]
        if kind == "t":
            return rng.choice(TOPICS) if rng.random() < 0.8 else value(rng)
        if kind == "w":
            return value(rng)
        if kind == "m":
            return str(rng.randint(1, 99 if rng.random() < 0.7 else 9999))
        return rng.choice(SLOTS[kind])

    for _ in range(4):
        text, count = _SLOT.subn(one, text)
        if not count:
            break
    return text[:1].upper() + text[1:]


_GROUPS: tuple[tuple[tuple[str, ...] | None, str, float], ...] = (
    (tuple(EXPLAIN), OTHER, 20),
    (tuple(words.REQUESTS), OTHER, 16),
    (tuple(EXAMPLES), EXAMPLE, 7),
    (tuple(SUMMARIES), SUMMARY, 7),
    (tuple(CLAIMS), OTHER, 18),
    (tuple(words.REMARKS), OTHER, 16),
    (tuple(UNKNOWN_THINGS), OTHER, 7),
    (tuple(words.THINGS), OTHER, 7),
    (tuple(FOREIGN), OTHER, 6),
    (tuple(CODE), OTHER, 3),
    (None, OTHER, 5),
)
_WEIGHTS = [weight for *_, weight in _GROUPS]


def outside(rng: Random) -> tuple[str, str]:
    """A prompt that the model cannot answer, and its honest reply."""
    phrases, answer, _ = rng.choices(_GROUPS, _WEIGHTS)[0]
    return (fill(rng, rng.choice(phrases)) if phrases else _noise(rng)), answer
