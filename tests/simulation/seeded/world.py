"""Questions to the simulated world, asked beside the product."""

from refloat.simulated.world import World

BY_THE_CLOCK = ".cron."
"""In the keys of commands by the clock."""


def serves(world: World, service: str) -> bool:
    """Whether the route leads to something that runs."""
    key, endpoints = world.routes.get(service, ("", ()))
    running = world.running.get(key)
    return bool(endpoints and running and not (running.stopped or running.endings) and running.boot != "exit")


def answers(world: World, service: str) -> bool:
    """Whether a request through the route is answered below 500."""
    key, _ = world.routes.get(service, ("", ()))
    return serves(world, service) and world.running[key].script.word("answer") not in ("none", "error")


def stays(world: World, key: str) -> bool:
    """Whether its script says that a switch has no effect, and the router says nothing of it."""
    return key in world.running and world.running[key].script.word("answer") == "old"


def left_of(world: World, key: str) -> list[str]:
    """What runs of one revision, or of a whole service when the key ends with a dot; runs by the clock end
    by themselves soon after their job was stopped."""

    def meant(other: str) -> bool:
        return other.startswith(key) if key.endswith(".") else other == key or other.startswith(f"{key}.")

    running = [k for k, r in world.running.items() if meant(k) and not r.stopped]
    return [f"running {k[-6:]}" for k in running] + [
        f"executing {k[-12:]}" for k in world.executing if meant(k) and BY_THE_CLOCK not in k
    ]


def names_service(world: World, service: str) -> str:
    """Its name when it was ever started, else the end of its id."""
    for running in world.running.values():
        if running.revision.service_id == service:
            return running.revision.name
    return service[-4:] or "-"
