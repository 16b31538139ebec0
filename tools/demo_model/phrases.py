"""What people say about the three kinds of fact, and what the model answers.

One answer per intent, on purpose: a sharp distribution stays right under ordinary sampling, and
makes the model usable as a test oracle. The questions are where the variety is.
"""

from __future__ import annotations

KINDS = ("name", "town", "pet")

ACKNOWLEDGE = {
    "name": "Nice to meet you, {v}!",
    "town": "Good to know that your home town is {v}.",
    "pet": "What a nice pet name: {v}!",
}
RECALL = {
    "name": "Your name is {v}.",
    "town": "Your home town is {v}.",
    "pet": "Your pet is called {v}.",
}
UNKNOWN = {
    "name": "I do not know your name. You have not told me.",
    "town": "I do not know your home town. You have not told me.",
    "pet": "I do not know your pet's name. You have not told me.",
}
NOTHING = "I do not know anything about you yet. You have not told me."

PETS = (
    "pet|dog|cat|hamster|rabbit|parrot|turtle|horse|goldfish|fish|bird|puppy|kitten|snake|lizard"
    "|pony|ferret|mouse|rat|canary|frog|gecko|bunny|tortoise|spider|budgie|duck|guinea pig"
).split("|")

TELL = {
    "name": (
        "My name is {v}|I'm {v}|I am {v}|Call me {v}|You can call me {v}|Please call me {v}"
        "|They call me {v}|My friends call me {v}|Everyone calls me {v}|The name is {v}"
        "|The name's {v}|My name's {v}|Name: {v}|{v} is my name|{v} here|This is {v}|It's {v}"
        "|I go by {v}|My first name is {v}|I was named {v}|Remember my name: {v}|I am called {v}"
        "|People call me {v}|People know me as {v}|You are talking to {v}|It's me, {v}|This is {v} speaking"
        "|Let me introduce myself: I'm {v}|Let me introduce myself, my name is {v}|My name: {v}"
        "|I would like you to call me {v}|My name is {v}, nice to meet you|Just call me {v}"
        "|I'm {v}, nice to meet you|I am {v}, pleased to meet you|You may call me {v}"
        "|My full name is {v}|My given name is {v}|My real name is {v}|My user name is {v}|My nickname is {v}|You should know that my name is {v}"
        "|Remember that I am {v}|Remember that my name is {v}|Note that my name is {v}"
        "|I want to tell you my name: {v}|I'm known as {v}|{v} is what people call me"
        "|Know me as {v}|Did you know that my name is {v}|Can you remember that my name is {v}"
        "|My parents named me {v}|I'm called {v}|Here is my name: {v}"
    ).split("|"),
    "town": (
        "I live in {v}|I'm from {v}|I am from {v}|I come from {v}|My home town is {v}"
        "|My hometown is {v}|My town is {v}|My city is {v}|I was born in {v}|I grew up in {v}"
        "|I moved to {v}|My home is {v}|My home is in {v}|I'm living in {v}|I am based in {v}"
        "|I'm based in {v}|I reside in {v}|{v} is my home town|{v} is where I live|We live in {v}"
        "|I just moved to {v}|Greetings from {v}|Remember that I live in {v}|Home town: {v}"
        "|The town I live in is {v}|The city I live in is {v}|My family lives in {v}"
        "|The place where I live is {v}|The name of my town is {v}|I live in a town called {v}"
        "|I live in the city of {v}|My town is called {v}|My city is called {v}|I dwell in {v}"
        "|I have always lived in {v}|Remember my home town: {v}|My home town is called {v}"
        "|I am living in {v}|I am at home in {v}|{v} is my hometown|My house is in {v}"
        "|Remember that my home town is {v}|I live near {v}|I stay in {v}"
        "|Did you know that I live in {v}|Can you remember that I live in {v}|Town: {v}"
    ).split("|"),
    "pet": (
        "My {k} is called {v}|My {k}'s name is {v}|I have a {k} named {v}|I have a {k} called {v}"
        "|The name of my {k} is {v}|{v} is my {k}|{v} is my {k}'s name|My {k} {v} is very sweet"
        "|I named my {k} {v}|I call my {k} {v}|We have a {k}. Its name is {v}|I've got a {k}, {v}"
        "|I own a {k} named {v}|I own a {k} called {v}|My {k} is named {v}|My {k} is {v}"
        "|Remember that my {k} is called {v}|Remember that my {k}'s name is {v}"
        "|We have a {k} called {v}|I've got a {k} called {v}|I have a {k}. Her name is {v}"
        "|I have a {k}. His name is {v}|My {k} has the name {v}|My {k}: {v}|I got a {k} named {v}"
        "|I have a little {k} with the name {v}|Our {k} is called {v}|Our {k}'s name is {v}"
        "|My {k} answers to {v}|Remember the name of my {k}: {v}|My little {k} is called {v}"
        "|My pet is a {k} called {v}|My pet is a {k} named {v}|My pet {k} is called {v}"
        "|I have a pet {k} named {v}|My pet's name is {v}|My pet is called {v}"
        "|Did you know that my {k} is called {v}|Can you remember that my {k} is called {v}"
    ).split("|"),
}

ASK = {
    "name": (
        "What is my name|What's my name|Do you remember my name|Do you know my name|Who am I"
        "|Tell me my name|Say my name|Can you tell me my name|What was my name|How am I called"
        "|What did I say my name was|What am I called|What do you call me|My name|And my name"
        "|What name did I give you|Remind me of my name|Do you know who I am|What is my name again"
        "|Do you remember who I am|What's my name again|Repeat my name|Which name did I tell you"
        "|I forgot my name, what is it|What should you call me|Tell me who I am"
        "|Could you remind me what my name is|What is the name I gave you|Could you say my name"
        "|What name did I tell you|Do you still know my name|Do you still remember my name"
        "|What is my first name|Can you remember my name|Did you remember my name"
        "|Have I told you my name|How do people call me|Which name do I have|Who is talking to you"
        "|Can you say my name|Write my name|What did I tell you my name was|Is my name known to you"
        "|What is your user called|Who are you talking to|Have you forgotten my name"
        "|I told you my name. What is it|My name is what|Guess my name|Do you recall my name"
    ).split("|"),
    "town": (
        "Where do I live|Where am I from|What is my home town|What's my hometown|Where is my home"
        "|Which town am I from|Which city do I live in|Do you know where I live|What's my town"
        "|Do you remember my home town|Tell me where I live|What town do I live in|And my town"
        "|What city am I from|Where do I come from|Where was I born|Where did I grow up|My town"
        "|What is my city|What is the name of my town|Do you remember where I live|What is my town"
        "|Do you remember where I am from|Tell me my home town|What's my city|My home town"
        "|Can you tell me where I live|Do you know my home town|What is my hometown"
        "|What was my home town|Remind me where I live|Which town did I tell you"
        "|What town did I say I live in|Where did I say I live|What is my home town again"
        "|Do you know where I am from|Do you still know where I live|In which town do I live"
        "|In which city do I live|Do you know my town|Say where I live|Name my home town"
        "|Where did I move|What is the town I live in|Have I told you where I live|Where I live"
        "|Do you know my city|Where is my house|Can you remember my home town|And where do I live"
        "|Do you recall my home town|Do you recall where I live"
    ).split("|"),
    "pet": (
        "What is my {k}'s name|What is my {k} called|What's the name of my {k}|What's my {k}'s name"
        "|What is the name of my {k}|Do you remember my {k}'s name|Who is my {k}|And my {k}"
        "|How is my {k} called|Do I have a {k}|Do you know my {k}|What did I name my {k}|My {k}"
        "|What do I call my {k}|Tell me my {k}'s name|Do you know my {k}'s name|Say my {k}'s name"
        "|Tell me the name of my {k}|Do you know the name of my {k}|Do you remember my {k}"
        "|Do you remember the name of my {k}|What was my {k}'s name|What was my {k} called"
        "|Remind me of my {k}'s name|Can you tell me my {k}'s name|What is my {k}'s name again"
        "|What name did I give my {k}|What name does my {k} have|How did I call my {k}"
        "|Do you still know my {k}'s name|Have I told you my {k}'s name|Tell me about my {k}"
        "|What is our {k} called|What did I call my {k}|Can you remember my {k}'s name"
        "|Do you know what my {k} is called|Do you recall my {k}'s name|What's my {k} called"
    ).split("|"),
}
ASK_ALL = (
    "What do you know about me|What do you remember about me|Tell me what you know about me"
    "|What have I told you|What did I tell you|What have I told you about me|Tell me all you know"
    "|What do you know about me so far|What do you remember|Do you remember anything about me"
    "|Tell me everything you know about me|Do you know anything about me|What have you learned"
    "|Summarize what you know about me|List what you know about me|Tell me about me"
).split("|")

TELL_BEFORE = (
    "Good afternoon! |Good afternoon. |Good morning. |Good morning, |Good evening! |Hello. |Hi. "
    "|Nice to meet you. |Nice to meet you, |Thanks. |Okay. |Great! |Hey bot, |Hi model, |Note: "
    "|FYI, |Important: |I forgot to say: |I forgot to tell you that |Oh and |First, |Alright, "
    "|One more thing: |Yes, |Here is a fact: |I must tell you that |I want you to know that "
    "|Please know that |"
    "Hi! |Hello! |Hello!\n|Hello, |Hi, |Hey, |Hey! |Good morning! |Good evening, "
    "|Please remember: |Well, "
    "|Remember this: |By the way, |Okay, |So, |Oh, |Listen: |Remember: |For the record, |Also, "
    "|I should say that |Just so you know, |And |Let me tell you: |You know, |Greetings! "
    "|Please remember that |Hello there, |Hey there! |Please note that "
).split("|")
TELL_AFTER = (
    " Please remember it.| Remember that.| Nice to meet you.| Keep it in mind.| Do not forget it."
    "| Okay?| Nice to meet you!| How are you?| Please remember that.| Got it?| Can you remember it?"
    "| Don't forget it!| :)| Thanks.| Please keep it in mind.| Please remember this."
    "| I will ask you later.| by the way|, you know|, okay|, and you| as you know| since 2019"
    "| with my family| if you want to know|, don't forget| in case you ask| for sure|, see"
).split("|")
CORRECT_BEFORE = (
    "No, |Actually, |Sorry, |Correction: |Wait, |I was wrong: |Oops, |I lied: |I made a mistake, "
    "|No wait, |Sorry, I meant: |That was wrong, |Not any more: |I changed my mind: |Update: "
).split("|")
CORRECT = {
    "name": (
        "I changed my name to {v}|My name is now {v}|My new name is {v}|Call me {v} instead"
        "|From now on call me {v}|Now my name is {v}|I am now called {v}"
        "|I renamed myself {v}|Please call me {v} from now on|My name is {v} now"
    ).split("|"),
    "town": (
        "I now live in {v}|My new home town is {v}|I have moved to {v}|Now I live in {v}"
        "|We have moved to {v}|My home town is now {v}|I live in {v} now|My new home is {v}"
    ).split("|"),
    "pet": (
        "I renamed my {k} {v}|My {k} is now called {v}|My new {k} is called {v}"
        "|I renamed my {k} to {v}|The new name of my {k} is {v}|My {k}'s new name is {v}"
        "|Now my {k} is called {v}|My {k}'s real name is {v}|I have a new {k} called {v}"
    ).split("|"),
}
ASK_BEFORE = (
    "So, |Hey, |Please, |And |Now |Okay, |Quick question: |Hi! |Tell me, |Well, |By the way, |Then "
    "|Hello! |Do you remember? |One more thing: |Let me test you: |Hmm, |Please tell me: |Say, "
    "|Good. |Thanks! |Hello, |Great, |Sorry, |Wait, |I wonder: |Question: |But |Now tell me: |Ok "
).split("|")
ASK_AFTER = (
    " please| again| do you know| Do you remember| now| then| Tell me| I forgot|, please| Please"
).split("|")
JOINS = (" and ", ", and ", ". ", ", ", "; ", " and by the way, ", ". Also, ", " and also ")

SYSTEM = (
    "You are a helpful assistant.|You are a friendly assistant.|Be brief.|Answer shortly.|Be kind."
    "|You are a tiny demo model.|Answer in one sentence.|You are a chat bot.|Be polite and short."
    "|Speak like a pirate.|You are an expert in {w}.|Answer only in {w}.|Do not use lists."
    "|You are {w}, a helpful assistant.|Your name is {w}.|You are a coding assistant."
    "|Use simple words.|The current date is 2026-01-{m}.|Never talk about {w}.|Be precise."
    "|You are a careful assistant. Answer the user's questions.|Assist the user with {w}."
).split("|")
