"""The environment as it is on the server, read when it is asked for and again after it was changed."""

from collections.abc import Iterator

from refloat.cli.client import Client, Json
from refloat.cli.lookup import find_cluster, find_project
from refloat.cli.manifest.references import Names


class There:
    """An environment of a project by its name; `environment` is None until it is made.

    What was read is kept until `forget`.
    """

    def __init__(self, client: Client, project: Json, name: str) -> None:
        self.client = client
        self.project = project
        self._name = name
        self._registries: dict[str, str] | None = None
        self.forget()

    @classmethod
    def find(cls, client: Client, project: str, name: str) -> "There":
        return cls(client, find_project(client, project), name)

    def forget(self) -> None:
        """Read anew what is asked for from now on."""
        self._environment: Json | None = None
        self._services: dict[str, Json] | None = None
        self._stages: list[Json] | None = None
        self._variables: dict[str, list[Json]] = {}

    @property
    def environment(self) -> Json | None:
        if self._environment is None:
            listed = self.client.get(f"/project/{self.project['id']}/environment")["results"]
            self._environment = next((it for it in listed if it["name"].lower() == self._name.lower()), None)
        return self._environment

    @property
    def services(self) -> dict[str, Json]:
        """By lower-case name."""
        if self._services is None:
            self._services = {it["name"].lower(): it for it in self._listed("services")}
        return self._services

    @property
    def stages(self) -> list[Json]:
        """In the order they run."""
        if self._stages is None:
            self._stages = self._listed("deploymentStage")
        return self._stages

    def _listed(self, noun: str) -> list[Json]:
        there = self.environment
        return list(self.client.get(f"/environment/{there['id']}/{noun}")["results"]) if there else []

    @property
    def id(self) -> str:
        assert self.environment is not None
        return str(self.environment["id"])

    def cluster(self, name: str) -> str:
        return str(find_cluster(self.client, self.project["organization"]["id"], name)["id"])

    def stage(self, name: str) -> Json | None:
        return next((it for it in self.stages if it["name"].lower() == name.lower()), None)

    def place(self, service: Json) -> tuple[str, bool]:
        """The stage a service stands in, and whether it is skipped."""
        for stage in self.stages:
            for it in stage["services"]:
                if it["service_id"] == service["id"]:
                    return stage["name"], it["is_skipped"]
        return "", False

    # -- variables

    def owner(self, service: str | None) -> tuple[str, str] | None:
        """Id and scope of whose variables they are; None while it is not made."""
        if service is None:
            return (self.id, "ENVIRONMENT") if self.environment else None
        found = self.services.get(service.lower())
        return (str(found["id"]), str(found["service_type"])) if found else None

    def visible(self, service: str | None) -> list[Json]:
        """What an owner sees: its own, the inherited and the built-in ones."""
        owner = self.owner(service)
        if owner is None:
            return []
        if owner[0] not in self._variables:
            answer = self.client.get("/variable", parent_id=owner[0], scope=owner[1])
            self._variables[owner[0]] = answer["results"]
        return self._variables[owner[0]]

    def own(self, service: str | None) -> dict[str, Json]:
        """An owner's own variables by key; databases have none."""
        owner = self.owner(service)
        if owner is None or owner[1] == "DATABASE":
            return {}
        return {it["key"]: it for it in self.visible(service) if it["scope"] == owner[1]}

    def names(self) -> Names:
        """How references to services are resolved now."""
        keys = (it["key"] for it in self.visible(None) if it["scope"] == "BUILT_IN")
        return Names(self.services, tuple(keys))

    def target(self, service: str | None, key: str) -> Json | None:
        """The variable that an alias or override of this owner can refer to."""
        return next(reversed([*self._targets(service, key)]), None)

    def _targets(self, service: str | None, key: str) -> Iterator[Json]:
        found = [it for it in self.visible(service) if it["key"] == key]
        found.sort(key=lambda it: it["scope"] != "BUILT_IN")
        yield from (it for it in found if it["variable_type"] not in ("ALIAS", "OVERRIDE"))

    def registries(self) -> dict[str, str]:
        """Ids of the organization's container registries by name."""
        if self._registries is None:
            path = f"/organization/{self.project['organization']['id']}/containerRegistry"
            self._registries = {it["name"]: it["id"] for it in self.client.get(path)["results"]}
        return self._registries
