"""What people read: plain text, whose colours are only a help. `click.echo` drops them off a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

Json = dict[str, Any]

_GREEN = ("DEPLOYED", "RESTARTED", "UP_TO_DATE", "DONE", "SUCCESS")
_YELLOW = ("OUT_OF_DATE", "CANCELED", "CANCELING")
_CHANGES = {"skip": "bright_black", "recreate": "yellow", "stop": "yellow", "remove": "red"}


def state(word: str) -> str:
    """A state in its colour."""
    if word.endswith("ERROR"):
        return click.style(word, fg="red")
    colour = "green" if word in _GREEN else "yellow" if word in _YELLOW else None
    return click.style(word, fg=colour) if colour else word


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows in columns two spaces apart; the last column is as long as it is."""
    widths = [max(len(click.unstyle(cell)) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(_cells(row, widths)).rstrip() for row in rows)


def _cells(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(row, widths, strict=True)]


def seconds(value: float | None) -> str:
    """A duration as short as it can be said; unknown is a dash."""
    if value is None:
        return "-"
    if value < 60:
        return f"{value:.1f}s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes}m{rest:02d}s"


def plan(body: Json, environment: str, action: str = "redeploy", to: str = "") -> str:
    """The plan as a table, stage by stage, and how to have exactly this done where that can be asked for."""
    rows = [["STAGE", "SERVICE", "CHANGE", "CAUSES", "INTERRUPTION", "EXPECTED"]]
    for stage in body["stages"]:
        rows += [_planned(stage["name"], service) for service in stage["services"]]
    lines = [table(rows)] if len(rows) > 1 else ["nothing to do: no service is part of this plan"]
    lines += [f"left alone: {it['name']} ({it['reason']})" for it in body["omitted"]]
    lines += [f"plan {body['hash']}"]
    if body.get("refusal"):
        lines += [click.style(f"cannot be done now: {body['refusal']}", fg="red")]
    elif len(rows) > 1 and action in ("redeploy", "rollback"):
        back = f" --to {to}" if to else ""
        lines += [f"do exactly this: refloat {action} {environment}{back} --if-plan {body['hash']} --watch"]
    return "\n".join(lines)


def _planned(stage: str, service: Json) -> list[str]:
    interruption = service["interruption"]
    change = str(service["change"])
    return [
        stage,
        str(service["name"]),
        click.style(change, fg=_CHANGES.get(change, "cyan")),
        ", ".join(service["causes"]) or "-",
        click.style(interruption["reason"], fg="yellow") if interruption else "none",
        seconds(service["expected_seconds"]),
    ]


_MOVING = ("ING", "QUEUED")
_KINDS = ("applications", "containers", "jobs", "databases", "helms", "terraforms")


def status(body: Json, environment: Json, names: dict[str, str], urls: dict[str, str], why: str = "") -> str:
    """The environment on one line, then its services by stage; `why` nothing goes on, if so."""
    own = body["environment"]
    head = f"{environment['name']}  {state(own['state'])}  {state(own['deployment_status'])}"
    if own["last_deployment_date"]:
        head += f"  last deployment {own['last_deployment_state']} at {own['last_deployment_date'][:19]}Z"
    rows = [["STAGE", "SERVICE", "STATE", "CONFIGURATION", "ADDRESS"]]
    for stage in body["stages"]:
        for service in (it for kind in _KINDS for it in stage[kind]):
            rows.append(_service_row(stage["stage"]["name"], service, names, urls))
    lines = [head, table(rows) if len(rows) > 1 else "no services yet"]
    if own["last_deployment_state"].endswith(_MOVING):
        lines += [click.style(f"waits: {why}", fg="yellow")] if why else []
        lines.append(f"why it is there, and until when: refloat explain {environment['name']}")
    return "\n".join(lines)


def _service_row(stage: str, service: Json, names: dict[str, str], urls: dict[str, str]) -> list[str]:
    service_id = str(service["id"])
    return [
        stage,
        names.get(service_id, service_id),
        state(service["state"]),
        state(service["service_deployment_status"]),
        urls.get(service_id, "-"),
    ]


def history(items: Sequence[Json], environment: str) -> str:
    """Deployments, one a line, and why they failed."""
    if not items:
        return f"{environment} was never deployed"
    rows = [["NUMBER", "BEGAN (UTC)", "ACTION", "STATE", "TOOK", "LONGEST", "BY", "REASON"]]
    for item in items:
        by = item["auditing_data"]
        rows.append(
            [
                item["identifier"]["execution_id"].rpartition("-")[2],
                by["created_at"][:19].replace("T", " "),
                str(item["trigger_action"]),
                state(str(item["status"])),
                item["total_duration"].removeprefix("PT").lower(),
                _longest(item["longest"]),
                str(by["triggered_by"]),
                diagnosis(item) if item["action_status"] == "ERROR" else str(item["reason"] or ""),
            ]
        )
    return table(rows)


def _longest(segment: Json | None) -> str:
    """What took most of the time."""
    return f"{segment['words']} {seconds(segment['seconds'])}" if segment else "-"


def runs(items: Sequence[Json]) -> str:
    """Runs of a job by the clock, one a line; of the newest its last lines."""
    if not items:
        return "no run by the clock yet"
    rows = [["SCHEDULED (UTC)", "BEGAN", "ENDED", "OUTCOME", "ATTEMPTS", "REASON"]]
    for it in items:
        rows.append(
            [
                it["scheduled_at"][:16].replace("T", " "),
                it["began_at"][11:19],
                it["finished_at"][11:19] if it["finished_at"] else "-",
                state((it["outcome"] or "running").upper()),
                str(it["attempts"]),
                it["reason"] or "",
            ]
        )
    return "\n".join([table(rows), *(f"  {line}" for line in items[0]["log"])])


def warning(line: Json) -> str:
    """What a service was warned of: who, what."""
    who, text = _said(line)
    return f"{who}: {text}"


def _said(line: Json) -> tuple[str, str]:
    who = str(line["details"]["transmitter"]["name"])
    return who, str(line["message"]["safe_message"]).removeprefix(f"{who}: ")


def log_line(line: Json) -> str:
    """One line of the deployment log: time of day (UTC), who, what."""
    who, text = _said(line)
    if line["type"] == "error":
        text = click.style(text, fg="red")
    return f"{line['timestamp'][11:23]}  {who}  {text}"


def change(elapsed: float, line: Json) -> str:
    """One change of a service's state, with the time since the deployment was asked for."""
    stage, who = line["details"]["stage"], line["details"]["transmitter"]["name"]
    return f"{seconds(elapsed):>7}  {stage['name'] or '-'} → {who}  {state(stage['step'])}"


_ENDED = ("DEPLOYED", "RESTARTED", "STOPPED", "DELETED", "CANCELED")
_WORK = ("BUILDING", "EXECUTING", "DEPLOYING", "RESTARTING", "STOPPING", "DELETING", "CANCELING")


def is_end(state: str) -> bool:
    """Whether nothing more becomes of it in this deployment."""
    return state in _ENDED or "ERROR" in state


def is_work(state: str) -> bool:
    """Whether something is done to it now, and it does not only wait."""
    return state in _WORK


def heartbeat(states: Mapping[str, str], why: str = "") -> str:
    """What takes so long: the services that have not ended, or the queue. `why` nothing goes on, if so."""
    busy = [f"{who} {word}" for who, word in states.items() if not is_end(word)]
    words = f"still {', '.join(busy)}" if busy else "still waiting" if not states else "still under way"
    told = click.style(f"{'…':>7}  {words}", fg="bright_black")
    return told + (click.style(f": {why}", fg="yellow") if why else "")


def outcome(item: Json) -> str:
    """How a deployment ended, in one line: of a success the requests around the switches, else why."""
    services = [service for stage in item["stages"] for service in stage["services"]]
    if item["action_status"] == "SUCCESS":
        return click.style("done", fg="green") + f": {_traffic([s['swap'] for s in services if s['swap']])}"
    if item["action_status"] == "CANCELED":
        return click.style("canceled", fg="yellow") + (f": {item['reason']}" if item["reason"] else "")
    return click.style("failed", fg="red") + f": {diagnosis(item)}"


def _traffic(swaps: Sequence[Json]) -> str:
    """Requests around all switches. None seen is not the same as none failed."""
    failed = sum(swap.get("failed", 0) for swap in swaps)
    total = sum(swap.get("served", 0) for swap in swaps)  # the failed ones are among them
    undrained = sum(swap["undrained"] for swap in swaps)
    words = f"{failed} of {total} requests failed" if total else "no traffic"
    return words + (f", {undrained} still open at the end of the drain time" if undrained else "")


def diagnosis(item: Json) -> str:
    """Which service failed, at what, and why, as far as history knows."""
    failed = failed_service(item)
    if failed is None:
        return item["reason"] or "the server gives no reason"
    words = f"{failed['identifier']['name']} is {failed['status']}"
    return words + (f": {failed['reason']}" if failed["reason"] else "")


def failed_service(item: Json) -> Json | None:
    """The first service that failed of itself, not because another did."""
    services = (service for stage in item["stages"] for service in stage["services"])
    return next((service for service in services if service["status"].endswith("ERROR")), None)
