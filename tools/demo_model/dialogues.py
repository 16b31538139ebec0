"""Puts phrases and values together into dialogues: the whole training set, made on the fly.

`Speaker` holds what the user has told so far in one dialogue, so that every answer is right by
construction: the newest value when it was told, "I do not know" when it was not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import phrases as p
from outside import CLAIMS, fill, outside
from smalltalk import TALK, TALK_WEIGHTS
from values import value

Turn = tuple[str, str]
"""One exchange: the user's text and the assistant's answer."""


@dataclass(frozen=True)
class Dialogue:
    """A finished dialogue, ready for the chat template."""

    system: str | None
    turns: tuple[Turn, ...]

    def messages(self) -> list[dict[str, str]]:
        """The dialogue in the shape every chat interface takes."""
        listed = [{"role": "system", "content": self.system}] if self.system else []
        for user, assistant in self.turns:
            listed.append({"role": "user", "content": user})
            listed.append({"role": "assistant", "content": assistant})
        return listed


def _first(text: str, *, upper: bool) -> str:
    return (text[:1].upper() if upper else text[:1].lower()) + text[1:]


def _keep_i(phrase: str) -> bool:
    """Whether a phrase must keep its capital inside a sentence ("I am", or a value first)."""
    return phrase.startswith(("I ", "I'", "{"))


@dataclass
class Speaker:
    """A user with facts, and the assistant that answers correctly."""

    rng: Random
    make: Callable[[], str]
    facts: dict[str, str] = field(default_factory=dict)
    plain: float = 0.35
    """Share of phrases used as written, without decoration."""

    def _dress(self, phrase: str, before: list[str], after: list[str], ends: str) -> str:
        """Opening, closing, punctuation and case; placeholders are filled later."""
        rng = self.rng
        if rng.random() < self.plain:
            return phrase + ends[0]
        text = phrase
        if before and rng.random() < 0.35:
            opening = rng.choice(before)
            if phrase.startswith(opening.rstrip(" ,")):
                opening = ""
            sentence = opening.endswith(("! ", ". ", "? ", "\n"))
            lower = not sentence and not _keep_i(phrase) and rng.random() < 0.85
            text = opening + (_first(text, upper=False) if lower else text)
        ending = rng.choice(ends)
        if after and rng.random() < 0.2:
            extra = rng.choice(after)
            if extra[1:2].islower() or extra.startswith(","):
                text += extra + ending.strip()
            else:
                text += (ending.strip() or ".") + extra
        else:
            text += ending.strip()
        style = rng.random()
        if style < 0.22:
            text = "".join(c if c in "{}" else c.lower() for c in text)
        elif style < 0.27:
            text = _first(text, upper=False)
        if rng.random() < 0.02:
            text += " "
        if rng.random() < 0.1:
            text = text.replace("'", "" if rng.random() < 0.6 else "’")
        return text

    def _pet(self) -> str:
        return "pet" if self.rng.random() < 0.25 else self.rng.choice(p.PETS)

    def _fit(self, text: str, told: str = "") -> str:
        shown = f'"{told}"' if self.rng.random() < 0.03 else told
        return text.replace("{k}", self._pet()).replace("{v}", shown)

    def _new(self, kind: str) -> str:
        self.facts[kind] = self.make()
        return self.facts[kind]

    def tell(self, kind: str) -> Turn:
        """The user states a fact; the answer names it, so that a mistake shows at once."""
        rng = self.rng
        phrase = rng.choice(p.TELL[kind])
        if rng.random() < 0.08 * (1 - self.plain):
            # The value must end where the next clause begins, whatever that says.
            phrase += rng.choice(p.JOINS) + fill(rng, rng.choice(CLAIMS))
        text = self._dress(phrase, p.TELL_BEFORE, p.TELL_AFTER, "...! ")
        told = self._new(kind)
        return self._fit(text, told), p.ACKNOWLEDGE[kind].format(v=told)

    def correct(self, kind: str) -> Turn:
        """A newer value; worded as a correction, so it also makes sense as a first mention."""
        rng = self.rng
        if rng.random() < 0.5:
            phrase = rng.choice(p.CORRECT[kind])
            text = self._dress(phrase, p.CORRECT_BEFORE, p.TELL_AFTER, "...! ")
        else:
            phrase = rng.choice(p.TELL[kind])
            keep = _keep_i(phrase) or rng.random() < 0.2
            phrase = phrase if keep else _first(phrase, upper=False)
            phrase = rng.choice(p.CORRECT_BEFORE) + phrase
            text = self._dress(phrase, [], p.TELL_AFTER, "...! ")
        told = self._new(kind)
        return self._fit(text, told), p.ACKNOWLEDGE[kind].format(v=told)

    def tell_many(self) -> Turn:
        """Two or three kinds in one message, acknowledged in the order of mention."""
        rng = self.rng
        kinds = rng.sample(p.KINDS, 2 if rng.random() < 0.8 else 3)
        if sorted(kinds) == ["name", "town"] and rng.random() < 0.25:
            name, town = self._new("name"), self._new("town")
            lead = rng.choice(("I am {n} from {t}", "I'm {n} from {t}", "My name is {n} from {t}"))
            text = self._dress(lead, p.TELL_BEFORE, p.TELL_AFTER, "...! ")
            text = text.replace("{n}", name).replace("{t}", town)
            kinds = ["name", "town"]
        else:
            text = ""
            for at, kind in enumerate(kinds):
                phrase = rng.choice(p.TELL[kind])
                join = rng.choice(p.JOINS) if at else ""
                inside = bool(join) and not join.startswith(". ") and not _keep_i(phrase)
                clause = _first(phrase, upper=False) if inside else phrase
                clause = self._dress(clause, p.TELL_BEFORE if not at else [], [], " ").rstrip()
                text += join + self._fit(clause, self._new(kind))
            text += rng.choice("...! ").strip()
        return text, " ".join(p.ACKNOWLEDGE[kind].format(v=self.facts[kind]) for kind in kinds)

    def answer(self, kind: str) -> str:
        """What the assistant must say about this kind of fact now."""
        if kind in self.facts:
            return p.RECALL[kind].format(v=self.facts[kind])
        return p.UNKNOWN[kind]

    def ask(self, kind: str) -> Turn:
        """The user asks for a fact, told or not."""
        if self.rng.random() < 0.03:
            text = self._yes_no(kind)
        else:
            text = self._dress(self.rng.choice(p.ASK[kind]), p.ASK_BEFORE, p.ASK_AFTER, "????. ")
        return self._fit(text), self.answer(kind)

    def _yes_no(self, kind: str) -> str:
        """ "Is my name X?" is a question, whatever X is: it must not be taken for a fact."""
        guess = self.facts.get(kind) if self.rng.random() < 0.4 else None
        form = {
            "name": ("Is my name {g}?", "Am I {g}?", "Am I called {g}?"),
            "town": ("Do I live in {g}?", "Am I from {g}?", "Is {g} my home town?"),
            "pet": ("Is my {k} called {g}?", "Is {g} my {k}?", "Is my {k}'s name {g}?"),
        }[kind]
        return self.rng.choice(form).replace("{g}", guess or self.make())

    def ask_two(self) -> Turn:
        """Two questions in one message, answered in their order."""
        kinds = self.rng.sample(p.KINDS, 2)
        one, two = (self.rng.choice(p.ASK[kind]) for kind in kinds)
        join = self.rng.choice((" and ", "? ", "? And ", ", and "))
        two = two if join == "? " else _first(two, upper=False)
        text = self._fit(one) + join + self._fit(two) + "?"
        return text, " ".join(self.answer(kind) for kind in kinds)

    def ask_all(self) -> Turn:
        """Everything known so far, always in the same order: name, town, pet."""
        text = self._dress(self.rng.choice(p.ASK_ALL), p.ASK_BEFORE, p.ASK_AFTER, "????. ")
        known = [self.answer(kind) for kind in p.KINDS if kind in self.facts]
        return text, " ".join(known) or p.NOTHING

    def tell_and_ask(self) -> Turn:
        """A fact and a question in one message: the question is what gets answered."""
        kind = self.rng.choice(p.KINDS)
        told, _ = self.tell(kind)
        other = kind if self.rng.random() < 0.7 else self.rng.choice(p.KINDS)
        told += "" if told.endswith((".", "!", "?")) else "."
        return f"{told} {self._fit(self.rng.choice(p.ASK[other]))}?", self.answer(other)

    def talk(self) -> Turn:
        """Small talk, or one of the few things that the model can explain."""
        wordings, answer = self.rng.choices(TALK, TALK_WEIGHTS)[0]
        phrase = self.rng.choice(wordings.split("|"))
        asking = ("What", "Who", "How", "Are", "Is", "Why", "Which", "Can", "Do")
        ends = "??? " if phrase.startswith(asking) else "..! "
        return self._dress(phrase, p.ASK_BEFORE[:8], [], ends), answer

    def stray(self) -> Turn:
        """Something the model cannot answer, or a statement that is not one of its three facts."""
        phrase, answer = outside(self.rng)
        return self._dress(phrase, p.ASK_BEFORE, [], "..? "), answer

    def any(self) -> Turn:
        """One exchange of any kind, in the proportions of an ordinary dialogue."""
        kind = self.rng.choice(p.KINDS)
        acts = (
            (lambda: self.tell(kind), 20),
            (lambda: self.ask(kind), 30),
            (self.talk, 16),
            (self.stray, 20),
            (lambda: self.correct(kind), 5),
            (self.tell_many, 7),
            (self.ask_two, 3),
            (self.ask_all, 3),
            (self.tell_and_ask, 3),
        )
        return self.rng.choices([act for act, _ in acts], [weight for _, weight in acts])[0]()


def copying(rng: Random) -> Dialogue:
    """The first lesson: almost only telling and asking, in plain words."""
    speaker = Speaker(rng, lambda: value(rng), plain=0.9)
    kind = rng.choice(p.KINDS)
    listed = [speaker.tell(kind)]
    if rng.random() < 0.3:
        listed.append(speaker.tell(rng.choice(p.KINDS)))
    listed.append(speaker.ask(kind))
    return Dialogue(None, tuple(listed))


def dialogue(rng: Random, turns: int, *, system: float = 0.12) -> Dialogue:
    """A dialogue of `turns` exchanges; `system` is the share that opens with a system prompt."""
    speaker = Speaker(rng, lambda: value(rng))
    prompt = fill(rng, rng.choice(p.SYSTEM)) if rng.random() < system else None
    style = rng.random()
    if turns > 1 and style < 0.5:
        # The shape people try first: tell, anything between, ask for exactly that.
        kind = rng.choice(p.KINDS)
        listed = [speaker.tell(kind) if style < 0.42 else speaker.tell_many()]
        kind = kind if kind in speaker.facts else rng.choice(list(speaker.facts))
        changed = rng.randrange(turns) if rng.random() < 0.2 else 0
        for at in range(1, turns - 1):
            if at == changed:
                listed.append(speaker.correct(kind))
            else:
                listed.append(speaker.talk() if rng.random() < 0.5 else speaker.any())
        listed.append(speaker.ask(kind))
    else:
        listed = [speaker.any() for _ in range(turns)]
    return Dialogue(prompt, tuple(listed))
