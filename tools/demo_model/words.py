"""Ordinary words for the sentences the model cannot answer; none is a pet, a town or a name."""

from __future__ import annotations

VERBS = (
    "write|read|draw|paint|sing|cook|bake|build|break|fix|repair|buy|sell|find|lose|open|close"
    "|start|stop|move|carry|throw|catch|kick|hit|wash|clean|cut|eat|drink|taste|smell|hear|watch"
    "|see|show|explain|describe|compare|translate|count|measure|weigh|solve|prove|invent|discover"
    "|design|install|update|delete|copy|print|send|book|order|pay|rent|visit|leave|reach|climb|fly"
    "|drive|ride|swim|run|walk|dance|play|win|teach|learn|study|remove|compile|deploy|debug|plot"
    "|sort|search|download|run|change|improve|choose|plan|organize|celebrate|grow|plant|feed|sleep"
).split("|")
PEOPLE = (
    "uncle|aunt|cousin|brother|sister|mother|father|friend|best friend|boss|teacher|neighbour|son"
    "|daughter|wife|husband|colleague|doctor|grandmother|grandfather|nephew|niece|boyfriend"
    "|girlfriend|roommate|landlord|coach|client|child|baby|twin|manager|partner|mum|dad|grandson"
).split("|")
SUBJECTS = (
    "my {p}|my {p}|the {n}|the {n}|a {n}|our {n}|she|he|they|it|everyone|nobody|somebody|{w}|{w}"
    "|the {n} of my {p}|some people|the children|the old man|a young woman|people|the government"
    "|the weather|the world|my {p} and my {p}|most people|the {n} and the {n}|that {n}|this {n}"
).split("|")
DOINGS = (
    "works in a {n}|was late today|painted the {n}|discovered America|plays the {n}|lives in {w}"
    "|sings in a choir|bought a {n}|invented the {n}|has three {n}s|sleeps all day|speaks {w}"
    "|fell off the {n}|likes {t}|went to {w}|won the race|is {a}|was {a}|is {a} today|is a {n}"
    "|will be {a} tomorrow|wants to {v} a {n}|can {v}|cannot {v}|has to {v} the {n}|lost the {n}"
    "|is called {w}|comes from {w}|moved to {w}|was born in {w}|broke the {n}|vanished|exploded"
    "|is better than the {n}|costs {m} dollars|knows {t}|hates {t}|stays up|runs fast|is beautiful"
    "|is in the {n}|has a {n}|has a dog called {w}|has a cat named {w}|loves the {n}|told me {t}"
).split("|")
REQUESTS = (
    "{v} me a {n}|{v} a {n}|{v} the {n}|{v} {t}|Please {v} a {n}|Please {v} the {n} for me|Who {d}"
    "|Can you {v} the {n}|Can you {v} me a {n}|Could you {v} a {n} for my {p}|Can a {n} {v}"
    "|How do I {v} a {n}|How do I {v} {t}|How can I {v} the {n}|Why did the {n} {v}|Why is the {n} {a}"
    "|When will {s} {v} the {n}|Should I {v} my {n}|Who can {v} a {n}|Is the {n} {a}|Are {n}s {a}"
    "|Do {n}s {v}|Does a {n} {v}|How many {n}s are in a {n}|How many {n}s does a {n} have"
    "|Where can I {v} a {n}|What {n} should I {v}|Which is better, {n}s or {n}s|What did {w} {v}"
    "|What would happen if {s} {d}|Is it true that {s} {d}|Why do {n}s {v}|Let us {v} the {n}"
    "|What is a {n}|What is the {n}|What are {n}s|Tell me about the {n}|Tell me about {n}s|Why {v}"
    "|What is the biggest {n}|Which {n} is the best|Who has a {n}|Where is the {n}|Give me a {n}"
    "|Give me {m} {n}s|Give me some {n} ideas|Suggest a {n}|{v} a {n} about {t}|When was the {n}"
    "|Do you have a {n}|Do you want a {n}|Do you like {n}s|Have you ever seen a {n}|Can {s} {v}"
    "|Help me {v} a {n}|Help me to {v} the {n}|I need you to {v} a {n}|Would you {v} a {n}|{n}"
    "|{n} {n}|{a} {n}|How long does it take to {v} a {n}|How much is a {n}|Did {s} {v} the {n}"
    "|Write a {n} about {n}s|Translate '{n}' to {w}|What does {n} mean|Define {n}|What about the {n}"
    "|Name {m} {n}s|Name a {n}|Imagine a {n}|If {s} {d}, what happens|{s} {d}, why|Say {n}"
).split("|")
REMARKS = (
    "{s} {d}|{s} {d}|{s} {d}|{s} {d} and {s} {d}|The {n} is {a}|My {n} is {a}|My {n} is old|{n}s {v}"
    "|There is a {n} in the {n}|I need to {v} a {n}|I'd like to {v} a {n}|I want a {n}|I have a {n}"
    "|I have {m} {n}s|I will {v} the {n}|I am going to {v} a {n}|I'm going to {v} a {n}|I lost my {n}"
    "|I cannot {v} the {n}|I prefer {n}s over {n}s|I like {n}s|I think the {n} is {a}|I hate {n}s"
    "|I'm a {n}|I am a {n}|I saw a {n} yesterday|Yesterday I saw {s}|I heard that {s} {d}|I {v} a lot"
    "|My {p} is called {w}|My {p}'s name is {w}|My {p} lives in {w}|My {p} is from {w}|My {p} {d}"
    "|The name of my {p} is {w}|I have a {p} called {w}|I have a {p} named {w}|{w} is my {p}"
    "|My {n} is called {w}|I call my {p} {w}|My {p} {w} lives in {w}|My {p} {w} {d}|I miss my {p}"
    "|I am with my {p}|I'm waiting for my {p}|My {p} was born in {w}|We {v} {n}s|I know a {n}"
    "|I was in {w}|I was in the {n}|I am in the {n}|I'm in the {n}|I come from work|I go to the {n}"
    "|I live in a {n}|I live next to a {n}|I live with my {p}|I work in a {n}|I'm from the {n}"
).split("|")
THINGS = (
    "What is my {n}|Where is my {n}|What colour is my {n}|Who is my {p}|What is my {p}'s name"
    "|How old is my {p}|Do you know my {n}|Do you know my {p}|What is my {p} called|How much is my {n}"
    "|Where does my {p} live|What does my {p} do|What is my {n} called|When is my {n}|Which {n} is mine"
    "|What is my favourite {n}|What's my favorite {n}|What's my {p}'s name|Where is my {p} from"
    "|Do I have a {n}|Do I like {n}s|Do I like {t}|Am I {a}|Was I {a}|What did I {v}|Did I {v} the {n}"
    "|How many {n}s do I have|Is my {n} {a}|What size is my {n}|Where did I {v} my {n}|Can I {v}"
    "|Do you remember my {p}|Do you remember my {p}'s name|Do you remember my {n}|Tell me my {n}"
).split("|")
