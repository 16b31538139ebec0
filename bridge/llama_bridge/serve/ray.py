"""A fleet on Ray Serve: ``import_path: llama_bridge.serve.ray:app``. Needs the extra ``llama-bridge[ray]``."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayActorError
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import Response

from ..errors import ClosedError
from .fleet.asked import Asked
from .fleet.ingress import Forwarded, Ingress, NoReplica, ReplicaLost
from .fleet.member import Begun, Member
from .fleet.settings import FleetSettings

__all__ = ["app"]

_ROUTER = "llama_bridge.serve.ray_router:ConversationRouter"

_SPARE = 16
"""Requests that a replica takes beyond those that it answers, to tell them that it is busy."""

_STREAMS = 1000
"""Requests that one ingress has at once."""


class Replica(Member):
    """Answers, with a model of its own."""

    async def __init__(self, settings: FleetSettings) -> None:  # type: ignore[misc]  # as Ray Serve allows
        context: Any = ray.get_runtime_context()  # has no types
        threads = settings.n_threads or int(context.get_assigned_resources().get("CPU", 1))
        settings = settings.model_copy(update={"n_threads": max(1, threads)})
        super().__init__(settings, serve.get_replica_context().replica_id.unique_id)
        await self.begin()

    async def __del__(self) -> None:
        """Ray Serve calls this when the replica is to end."""
        await self.end()


class Front:
    """Takes requests."""

    def __init__(self, replicas: DeploymentHandle[Any], settings: FleetSettings) -> None:
        self._answer = replicas.answer.options(stream=True)
        self._ingress = Ingress(self._ask, settings.server)

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        return Forwarded(self._ingress)

    async def _ask(self, asked: Asked) -> AsyncGenerator[Begun | bytes, None]:
        pieces: Any = self._answer.remote(asked)  # with stream=True, not of the type that is told
        try:
            async for piece in pieces:
                yield piece
        except (RayActorError, ClosedError) as error:
            raise ReplicaLost(type(error).__name__) from error
        except (BackPressureError, DeploymentUnavailableError) as error:
            raise NoReplica(type(error).__name__) from error
        finally:
            pieces.cancel()


def app(settings: FleetSettings) -> Application:
    """A fleet, for ``import_path: llama_bridge.serve.ray:app`` in Ray Serve's configuration.

    Ray Serve makes the settings of the ``args`` that are given there, or on the command line of ``serve run``.

    Raises:
        InvalidInput: a setting cannot be used.
    """
    server = settings.server  # now, so that a missing file is told to who deploys
    most = settings.max_replicas or settings.replicas
    placing = {"bound": settings.load_bound, "room": settings.n_parallel}
    routing: dict[str, Any] = {"request_router_class": _ROUTER, "request_router_kwargs": placing}
    how: dict[str, Any] = {"num_replicas": settings.replicas}
    if most > settings.replicas:
        how = {
            "autoscaling_config": AutoscalingConfig(
                min_replicas=settings.replicas,
                max_replicas=most,
                target_ongoing_requests=settings.n_parallel,
            )
        }
    replicas = serve.deployment(
        name="Replica",
        ray_actor_options={"num_cpus": max(1, settings.n_threads)},
        max_ongoing_requests=server.max_requests + _SPARE,
        request_router_config=RequestRouterConfig(**routing),
        **how,
    )(Replica)
    front = serve.deployment(
        name="Front",
        num_replicas=settings.ingresses,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=_STREAMS,
    )(Front)
    return front.bind(replicas.bind(settings), settings)


# Ray Serve makes the settings of `args` if it finds their class here. Its name alone, as annotations are in this file, it passes over.
app.__annotations__["settings"] = FleetSettings
