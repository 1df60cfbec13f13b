"""What every configured service must keep, whoever writes it; each refusal names field and rule."""

import re
import shlex
from collections.abc import Sequence
from typing import TypeVar

from refloat.domain import timetable
from refloat.domain.errors import Invalid
from refloat.domain.services import (
    Application,
    Container,
    Database,
    Image,
    Job,
    Port,
    Probe,
    Service,
    Storage,
    Workload,
)

S = TypeVar("S", bound=Service)
_LARGEST = 2**31 - 1
"""Clients read whole numbers into 32 bits."""
_IMAGE = re.compile(r"[a-z0-9]+([._/-]+[a-z0-9]+)*", re.IGNORECASE)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_VERSION = re.compile(r"\d{1,4}(\.\d{1,4}){0,2}")


def checked(it: S) -> S:
    """The service, if it keeps every rule; Invalid names the field and the rule."""
    _at_least("cpu", it.cpu, 10, " (millicores)")
    _at_least("memory", it.memory, 1, " (MB)")
    if isinstance(it, Workload):
        _check_workload(it)
    if isinstance(it, Application):
        _require(it.build_mode == "DOCKER", "build_mode: only DOCKER is known")
    if isinstance(it, Container):
        _check_image("", it.image)
    if isinstance(it, Database):
        _check_database(it)
    if isinstance(it, Job):
        _check_job(it)
    return it


def _check_workload(it: Workload) -> None:
    low, high = it.min_running_instances, it.max_running_instances
    _at_least("min_running_instances", low, 0)
    _at_least("max_running_instances", high, -1)
    _require(
        high == -1 or high >= max(1, low), "max_running_instances: at least min_running_instances, or -1"
    )
    _check_command("", it.entrypoint, it.arguments)
    _check_ports(it.ports)
    _check_storage(it.storage)
    for name in ("readiness_probe", "liveness_probe"):
        _check_probe(f"healthchecks.{name}", getattr(it.healthchecks, name))


def _check_command(prefix: str, entrypoint: str | None, arguments: Sequence[str]) -> None:
    for field, words in (("arguments", arguments), ("entrypoint", (entrypoint or "",))):
        _require(
            not any("\0" in word for word in words), f"{prefix}{field}: the character NUL is not allowed"
        )
    try:
        shlex.split(entrypoint or "")
    except ValueError as error:
        raise Invalid(f"{prefix}entrypoint: {str(error).lower()}") from None


def _check_image(prefix: str, image: Image) -> None:
    _require(
        bool(_IMAGE.fullmatch(image.image_name)), f"{prefix}image_name: {image.image_name!r} is no image"
    )
    _require(bool(_TAG.fullmatch(image.tag)), f"{prefix}tag: {image.tag!r} is no tag")


def _check_database(it: Database) -> None:
    _require(
        bool(_VERSION.fullmatch(it.version)), f"version: {it.version!r} is not a version like 16 or 16.4"
    )
    _at_least("storage", it.storage_gb, 1, " (GB)")


def _check_job(it: Job) -> None:
    _require((it.git is None) != (it.image is None), "source: exactly one of image and docker is expected")
    if it.image:
        _check_image("source.image.", it.image)
        _require(it.image.tag != "latest", "source.image.tag: a job needs a tag that stays, not latest")
    events = {"on_start": it.on_start, "on_stop": it.on_stop, "on_delete": it.on_delete}
    given = {name: command for name, command in events.items() if command}
    _require(
        bool(given) != bool(it.cronjob), "schedule: either cronjob, or one of on_start, on_stop, on_delete"
    )
    for name, command in given.items():
        _check_command(f"schedule.{name}.", command.entrypoint, command.arguments)
    if it.cronjob:
        _check_command("schedule.cronjob.", it.cronjob.entrypoint, it.cronjob.arguments)
        timetable.check(it.cronjob.scheduled_at, it.cronjob.timezone)
    _at_least("max_nb_restart", it.max_nb_restart, 0)
    if it.max_duration_seconds is not None:
        _at_least("max_duration_seconds", it.max_duration_seconds, 1)
    _check_port("port", it.port)


def _check_ports(ports: Sequence[Port]) -> None:
    for port in ports:
        _check_port("ports: internal_port", port.internal_port)
        _check_port("ports: external_port", port.external_port)
    _require(_unique([p.internal_port for p in ports]), "ports: each internal_port once")
    _require(_unique([p.name for p in ports]), "ports: each name once")


def _check_storage(storages: Sequence[Storage]) -> None:
    mounts = [s.mount_point for s in storages]
    _require(all(m.startswith("/") for m in mounts), "storage: mount_point is an absolute path")
    _require(not any(".." in m.split("/") for m in mounts), "storage: mount_point without '..'")
    _require(_unique([m.rstrip("/") for m in mounts]), "storage: each mount_point once")
    for storage in storages:
        _at_least("storage: size", storage.size, 1, " (GB)")


def _check_probe(field: str, probe: Probe | None) -> None:
    if probe is None:
        return
    checks = [c for c in (probe.tcp, probe.http, probe.exec, probe.grpc) if c is not None]
    _require(len(checks) == 1, f"{field}: exactly one of tcp, http, exec, grpc is expected")
    for check in checks:
        _check_port(f"{field}.type: port", getattr(check, "port", None))
    _at_least(f"{field}.initial_delay_seconds", probe.initial_delay_seconds, 0)
    for name in ("period_seconds", "timeout_seconds", "success_threshold", "failure_threshold"):
        _at_least(f"{field}.{name}", getattr(probe, name), 1)
    if probe.exec is not None:
        _require(bool(probe.exec.command), f"{field}.type.exec.command: at least one word")
        _require("\0" not in "".join(probe.exec.command), f"{field}.type.exec.command: no NUL")


def _check_port(field: str, port: int | None) -> None:
    _require(port is None or 1 <= port <= 65535, f"{field} is a number from 1 to 65535")


def _at_least(field: str, value: int, least: int, unit: str = "") -> None:
    _require(least <= value <= _LARGEST, f"{field}: {least}{unit} to {_LARGEST} is expected")


def _unique(values: Sequence[object]) -> bool:
    return len(set(values)) == len(values)


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise Invalid(rule)
