"""What well-behaved clients ask, and what must come back."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from typing import Any

import openai

__all__ = ["Client", "Wrong"]

_NAMES = ["Zorvane", "Quill", "Marlow", "Tavik", "Osha"]
_QUESTIONS = ["Hello!", "Who are you?", "What is two plus three?", "Count from one to ten."]
_WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
_PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


class Wrong(Exception):
    """An answer that does not fit its question."""


class Client:
    """Asks one thing after the other, as the official client does.

    Attributes:
        kept: responses that the server has acknowledged, and the name told in each.

    Args:
        port: where the server answers.
        chance: decides what is asked.
        chat: name of the model that talks.
        embedder: name of the model that embeds.
    """

    def __init__(self, port: int, chance: random.Random, chat: str, embedder: str) -> None:
        self.kept: list[tuple[str, str]] = []
        self._chance = chance
        self._chat, self._embedder = chat, embedder
        self._openai = openai.OpenAI(
            base_url=f"http://127.0.0.1:{port}/v1",
            api_key="none",
            max_retries=0,
            timeout=120,
            _strict_response_validation=True,
        )
        self._can: list[Callable[[], None]] = [
            self._ask,
            self._ask,
            self._stream,
            self._stream,
            self._call,
            self._fill,
            self._embed,
            self._tell,
            self._remember,
        ]

    def once(self) -> str:
        """Ask something; returns what it was.

        Raises:
            Wrong: the answer is not what it should be.
            openai.OpenAIError: there is none.
        """
        what = self._chance.choice(self._can)
        what()
        return what.__name__

    def _user(self) -> list[Any]:
        return [{"role": "user", "content": self._chance.choice(_QUESTIONS)}]

    def _ask(self) -> None:
        made = self._openai.chat.completions.create(
            model=self._chat, messages=self._user(), max_tokens=40
        )
        if not made.choices[0].message.content or made.usage is None:
            raise Wrong(made)

    def _stream(self) -> None:
        text, usage = "", None
        for chunk in self._openai.chat.completions.create(
            model=self._chat,
            messages=self._user(),
            max_tokens=40,
            stream=True,
            stream_options={"include_usage": True},
        ):
            usage = chunk.usage or usage
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
        if not text or usage is None:
            raise Wrong((text, usage))

    def _call(self) -> None:
        tools: Any = [_WEATHER]
        made = self._openai.chat.completions.create(
            model=self._chat,
            messages=self._user(),
            tools=tools,
            tool_choice="required",
            max_tokens=120,
        )
        choice = made.choices[0]
        if choice.finish_reason == "length":
            return
        call: Any = (choice.message.tool_calls or [None])[0]
        if call is None or json.loads(call.function.arguments)["city"] not in ("Oslo", "Rome"):
            raise Wrong(made)

    def _fill(self) -> None:
        shape: Any = {
            "type": "json_schema",
            "json_schema": {"name": "person", "strict": True, "schema": _PERSON},
        }
        made = self._openai.chat.completions.create(
            model=self._chat, messages=self._user(), response_format=shape, max_tokens=120
        )
        if made.choices[0].finish_reason == "length":
            return
        person = json.loads(made.choices[0].message.content or "")
        if set(person) != {"name", "age"} or not isinstance(person["age"], int):
            raise Wrong(made)

    def _embed(self) -> None:
        texts = [f"text number {self._chance.randrange(99)}" for _ in range(4)]
        made = self._openai.embeddings.create(
            model=self._embedder, input=texts, encoding_format="float"
        )
        vectors = [one.embedding for one in made.data]
        if len(vectors) != len(texts) or not all(
            math.isfinite(number) for vector in vectors for number in vector
        ):
            raise Wrong(made)

    def _tell(self) -> None:
        name = self._chance.choice(_NAMES)
        made = self._openai.responses.create(
            model=self._chat, input=f"Hello! My name is {name}.", temperature=0
        )
        self.kept = [*self.kept[-20:], (made.id, name)]

    def _remember(self) -> None:
        if not self.kept:
            return
        told, name = self._chance.choice(self.kept)
        made = self._openai.responses.create(
            model=self._chat, input="What is my name?", previous_response_id=told, temperature=0
        )
        if name not in made.output_text:
            raise Wrong((name, made.output_text))
