"""Hand-written trials: wordings and values that are in no training table.

Real people will type things the generator never made. These lists stand in for them; the values
are reserved in `values.py`, so that training cannot meet them.
"""

from __future__ import annotations

VALUES = {
    "name": (
        "Zorblax|Xiomara|Nguyen|Bartholomew|Søren|Ada|Bo|José|Zoë|O'Brien|Anne-Marie|McDonald|R2D2"
        "|Siobhan|Wolfgang|Priyanka|Kwame|Ngozi|Björk|Dvořák|Renée|Jean-Luc|Quetzalcoatl"
    ).split("|"),
    "town": (
        "Tallinn|Reykjavík|Timbuktu|Ouagadougou|Llanfair|São Paulo|New York|Saint-Étienne|Köln|Łódź"
        "|X'anadu|Kyiv|Winterfell|Zürich|O'Fallon|Buxtehude|Rivendell|Smallville|Ulaanbaatar"
    ).split("|"),
    "pet": (
        "Mr. Whiskers|Bucephalus|Pixel|Schnurrli|Biscuit|Snowball|T-Bone|Lord Fluff|Ziggy|3PO|Mochi"
        "|Garfield|Włóczykij|Fluffy Two|Bjørn|Kiki|Rocinante"
    ).split("|"),
}

TELL = {
    "name": (
        "Hi there, my name is {v}.|Hello! I'm {v} and I'm new here.|hey im {v}|hi, i'm {v}"
        "|my name is {v} by the way|Good afternoon. My name is {v}.|Hi bot, {v} is my name!"
        "|Please save this: my name is {v}.|People at work call me {v}.|Remember me as {v}."
        "|My name is {v}. Please remember that for later.|Hello hello, {v} is here."
        "|I'm {v}, by the way.|Nice to meet you, I'm {v}.|My given name is {v}."
    ).split("|"),
    "town": (
        "I live in {v} at the moment.|I am living in {v} these days.|i'm from {v} btw"
        "|I was born and raised in {v}.|My family and I live in {v}.|We moved to {v} last year."
        "|By the way, I come from {v}!|My home is the town of {v}.|i live in {v}"
        "|I'm originally from {v}.|Please remember I live in {v}.|My current city is {v}."
    ).split("|"),
    "pet": (
        "I have a cat and her name is {v}.|My dog's name is {v}!|i have a dog called {v}"
        "|I just got a puppy. I named him {v}.|My beloved parrot is called {v}."
        "|We adopted a kitten named {v}.|My old dog is called {v}.|my cat is {v}"
        "|There is a hamster in my house called {v}.|The name of my new cat is {v}."
        "|I have a pet named {v}.|My family has a rabbit called {v}."
    ).split("|"),
}

ASK = {
    "name": (
        "Do you remember what my name is?|So what was my name again?|can you remember my name"
        "|What's my name, please?|Hey, who am I?|Please tell me what my name is.|whats my name"
        "|Could you tell me my name?|Now, what is my name?|I wonder if you know my name."
        "|Quick test: what is my name?|Okay, and what's my name?"
    ).split("|"),
    "town": (
        "Do you remember where I live?|Where do I live again?|what city am i from"
        "|Where is it I live?"
        "|Please tell me where I live.|Could you tell me where I am from?|So where am I from?"
        "|What's the name of my home town?|Now, where do I live?|Which place do I come from?"
    ).split("|"),
    "pet": (
        "Do you remember what my pet is called?|What was the name of my pet again?"
        "|whats my pets name"
        "|Could you tell me my pet's name?|And what is my pet called?|Please name my pet."
        "|So what's my pet's name?|Now, what is the name of my pet?|Can you recall my pet's name?"
    ).split("|"),
}

OUTSIDE = (
    "Explain coroutines in simple words.|Now give one practical example."
    "|Summarize both answers in 3 bullets.|What is the capital of Norway?|Write a limerick."
    "|How many legs does a spider have?|Translate 'good morning' into Spanish.|2+2?"
    "|Can you book me a flight to Rome?|Who painted the Mona Lisa?|Explain how a bicycle stays up."
    "|Give me three ideas for dinner.|Is water wet?|Tell me about the French kings.|asdf jkl qwerty"
    "|Wie spät ist es?|Pouvez-vous m'aider ?|¿Quién eres tú?|def main(): return 42"
    "|lorem ipsum dolor"
    "|What would happen if the moon vanished?|Why is the sky blue?|Sing me a lullaby.|これは何ですか"
    "|Please write a unit test for my parser.|How do I install Linux?|xkcd 927|Draw me a sheep."
    "|Which is better, tabs or spaces?|What did Einstein discover?|I prefer tea over coffee."
    "|My uncle works in a bank.|The train was late today.|It will be sunny tomorrow."
    "|I am exhausted."
    "|My cousin's name is Ferdinand.|My friend Olga lives in Omsk.|I'm just kidding."
    "|I'm very tired."
    "|Paris is beautiful in spring.|I'd like to order a coffee.|What is my shoe size?"
    "|What is my favourite film?|Who is my neighbour?|How much do I weigh?"
    "|What is my cousin's name?"
).split("|")

TALK = (
    ("Hello!", "Hello!"),
    ("hi", "Hello!"),
    ("Good morning!", "Hello!"),
    ("hey there", "Hello!"),
    ("Thanks!", "You are welcome"),
    ("thank you so much!", "You are welcome"),
    ("Okay, thanks a lot!", "You are welcome"),
    ("Bye!", "Goodbye"),
    ("goodbye", "Goodbye"),
    ("See you later!", "Goodbye"),
    ("Who are you?", "I am the llama-bridge demo"),
    ("who are you", "I am the llama-bridge demo"),
    ("What is your name?", "I am the llama-bridge demo"),
    ("what's your name?", "I am the llama-bridge demo"),
    ("What can you do?", "Tell me your name"),
    ("what can you do for me?", "Tell me your name"),
    ("How are you?", "I am fine"),
    ("how are you today?", "I am fine"),
    ("What is a KV cache?", "A KV cache keeps"),
    ("what is a kv cache", "A KV cache keeps"),
    ("Can you explain what a KV cache is?", "A KV cache keeps"),
    ("What is a session?", "A session is"),
    ("what's a session?", "A session is"),
    ("What is llama-bridge?", "llama-bridge is"),
    ("What is llama.cpp?", "llama.cpp is"),
    ("What is GGUF?", "GGUF is"),
    ("What is a token?", "A token is"),
    ("What is WebAssembly?", "WebAssembly is"),
    ("ok", "All right"),
    ("Great!", "All right"),
)
