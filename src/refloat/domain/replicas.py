"""Servers that share a database, and the machines they work on."""

import msgspec

LEASE_SECONDS = 10.0
"""How long a server may be silent before it counts as dead and another one ends its connections."""


class Term(msgspec.Struct, frozen=True, kw_only=True):
    """The time in which one server alone works on a node. `number` grows with every term of the node, so
    the owner it names is never another one's."""

    node: str
    replica: str
    number: int

    @property
    def owner(self) -> str:
        """Under which deployments are owned during the term."""
        return f"{self.replica}.{self.number}"


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """One server as the database knows it. `silent_seconds` have gone by since it was heard of."""

    id: str
    node: str
    leads: bool
    silent_seconds: float

    @property
    def alive(self) -> bool:
        return self.silent_seconds < LEASE_SECONDS
