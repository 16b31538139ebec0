"""What the owner of a fleet decides: the ``args`` of the application in Ray Serve's configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ...errors import InvalidInput
from ...models.source import DEMO
from ...params import ModelParams, SamplingParams
from ..settings import ServerSettings

__all__ = ["FleetSettings"]


class FleetSettings(BaseModel):
    """How a fleet answers.

    Attributes:
        store: where replicas keep responses and KV caches: a folder that all of them see, absolute, or a URL that fsspec knows,
            such as ``s3://bucket/folder``.
        model: its name, as :class:`LlamaBridge` takes it.
        alias: its name in requests; by default the file's.
        backend: of the bridges.
        n_ctx: tokens of context that the answers of a replica share; 0 takes the default of :class:`ModelParams`.
        n_parallel: answers that a replica computes at once.
        n_threads: of each replica; 0 takes all cores that it may use.
        session_memory: MB of a replica for KV caches of conversations at rest.
        replicas: how many there are; with ``max_replicas`` the least.
        max_replicas: how many there may be: a replica is added when more requests wait than the others compute at once.
        ingresses: how many deployments take requests; one is enough for hundreds of streams.
        load_bound: how much of the average load a replica may have before conversations move away from it.
        api_key_file: keys, one a line; a request must bring one of them. All nodes need the file.
        allowed_hosts: names that the Host header may have, besides localhost and addresses in numbers.
        cors_origins: web pages from these addresses may ask.
        max_requests: how many requests a replica has at once; one more is told that it is busy.
        max_responses: how many responses the store keeps.
        store_gb: how large the store may be; beyond it KV caches go, and what was said stays.
        store_seconds: how long the store may keep a request waiting.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    store: str
    model: str = DEMO
    alias: str | None = None
    backend: str = "auto"
    n_ctx: int = Field(default=0, ge=0)
    n_parallel: int = Field(default=4, ge=1)
    n_threads: int = Field(default=0, ge=0)
    session_memory: int = Field(default=256, ge=0)
    replicas: int = Field(default=1, ge=1)
    max_replicas: int | None = Field(default=None, ge=1)
    ingresses: int = Field(default=1, ge=1)
    load_bound: float = Field(default=1.25, gt=1, le=1000)
    api_key_file: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    max_requests: int = Field(default=64, ge=1)
    max_responses: int = Field(default=100_000, ge=1)
    store_gb: float = Field(default=64, gt=0, le=1e9)
    store_seconds: float = Field(default=5, gt=0, le=3600)

    @field_validator("store")
    @classmethod
    def _whole(cls, store: str) -> str:
        if "://" not in store and not os.path.isabs(store):
            raise ValueError("give an absolute path of a folder that all replicas see, or a URL")
        if store.startswith("memory:"):
            raise ValueError(
                "each replica has a memory of its own: give a folder that all see, or another URL"
            )
        return store

    @model_validator(mode="after")
    def _ordered(self) -> FleetSettings:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError("max_replicas is less than replicas")
        return self

    @property
    def name(self) -> str:
        """The model's name in requests."""
        return self.alias or Path(self.model).stem

    @property
    def server(self) -> ServerSettings:
        """How requests are treated.

        Raises:
            InvalidInput: a setting cannot be used.
        """
        return ServerSettings(
            api_keys=self._keys(),
            hosts=self.allowed_hosts,
            cors_origins=self.cors_origins,
            max_requests=self.max_requests,
        )

    def _keys(self) -> tuple[str, ...]:
        if self.api_key_file is None:
            return ()
        try:
            lines = Path(self.api_key_file).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise InvalidInput(f"api_key_file={self.api_key_file!r}: {why}") from error
        keys = tuple(line.strip() for line in lines if line.strip())
        if not keys:
            raise InvalidInput(f"api_key_file={self.api_key_file!r}: there is no key in it")
        return keys

    @property
    def bridge(self) -> dict[str, Any]:
        """Arguments of a replica's bridge."""
        return {
            "backend": self.backend,
            "params": ModelParams(
                n_ctx=self.n_ctx, n_parallel=self.n_parallel, n_threads=self.n_threads
            ),
            # As `llama-bridge serve` has it.
            "sampling": SamplingParams(
                max_tokens=None,
                temperature=0.0 if self.model == DEMO else SamplingParams().temperature,
                speculate=True,
            ),
            "session_memory": self.session_memory << 20,
        }
