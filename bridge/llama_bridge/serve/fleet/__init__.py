"""A fleet: several servers that keep their responses in one store, so that each goes on from what the others have answered.

.. code-block:: text

    ingress.py    takes requests from clients, and asks a member
    member.py     answers: a server of the fleet
    asked.py      a request on its way, and which conversation it belongs to
    placing.py    which member has that conversation, and how much it may be loaded
    settings.py   what the owner decides

Knows no Ray: ``serve/ray.py`` and ``serve/ray_router.py`` run this on Ray Serve. May import what ``serve`` may.
"""
