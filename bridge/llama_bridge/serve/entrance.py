"""``/app/enter``: how the page of a window gets its key.

Browsers keep the addresses that they were given, with all that is in them, and some send them to other machines. So the
address of a window has only a word in it that is good for one use, which gets the page the key.
"""

from __future__ import annotations

import hmac

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .fields import Fields
from .refusals import Refused
from .server import Server

__all__ = ["ENTER", "Entrance"]

ENTER = "/app/enter"


class Entrance:
    """Gives the first of the server's keys for a word, once.

    Args:
        words: each is good for one use.
    """

    def __init__(self, *words: str) -> None:
        self._words = list(words)

    async def enter(self, server: Server, request: Request) -> Response:
        """The key, for a word that nobody has used."""
        given = await server.read(request, _word)
        for word in self._words:
            if hmac.compare_digest(word.encode(), given.encode()):
                self._words.remove(word)
                return JSONResponse({"key": server.settings.api_keys[0]})
        why = "this address has been used, and opens one window only: close this one, and start llama-bridge app again for another"
        raise Refused(403, why, code="address_used")


def _word(fields: Fields) -> str:
    word = fields.needed_text("word")
    fields.done()
    return word
