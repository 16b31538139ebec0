"""What the server's owner decides."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..checks import check_count, check_flag, check_text, check_texts, shown
from ..errors import InvalidInput

__all__ = ["ServerSettings"]


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How the server treats requests.

    Attributes:
        api_keys: a request must bring one of them; none means that everybody may ask.
        hosts: names that the Host header may have, besides ``localhost`` and addresses in numbers. A name that somebody
            else's web page has made up is refused.
        cors_origins: web pages from these addresses may ask; ``"*"`` for all. Otherwise only pages of this server.
        log_prompts: whether what people say may be in the log.
        max_body: bytes of a request.
        body_seconds: how long a request may take to arrive.
        read_seconds: how long a client may read nothing of a stream before its answer ends.
        max_requests: how many requests are answered or wait at once; one more is told that the server is busy.
        max_responses: how many responses are kept for ``previous_response_id``; beyond it the least recently used go.
    """

    api_keys: tuple[str, ...] = field(default=(), repr=False)
    hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    log_prompts: bool = False
    max_body: int = 8 << 20
    body_seconds: float = 30.0
    read_seconds: float = 60.0
    max_requests: int = 64
    max_responses: int = 1000

    def __post_init__(self) -> None:
        for name in ("api_keys", "hosts", "cors_origins"):
            texts = tuple(check_texts(name, getattr(self, name)))
            if not all(texts):
                raise InvalidInput(f"{name} contains an empty text: leave it out")
            object.__setattr__(self, name, texts)
        for key in self.api_keys:
            if not check_text("api_keys", key).isascii() or not key.isprintable() or " " in key:
                raise InvalidInput("api_keys: a key has visible ASCII characters, and no space")
        check_flag("log_prompts", self.log_prompts)
        check_count("max_body", self.max_body, least=1)
        check_count("max_requests", self.max_requests, least=1)
        check_count("max_responses", self.max_responses, least=1)
        for name in ("body_seconds", "read_seconds"):
            seconds: object = getattr(self, name)
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
                raise InvalidInput(f"{name}={shown(seconds)}: give a number above 0")
