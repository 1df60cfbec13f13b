"""`refloat clean`: what builds keep on the server's disk, and deleting what nothing needs."""

from typing import Any

import click

from refloat.cli.options import as_json_option, client, print_json
from refloat.cli.problems import Problem

_UNITS = ("bytes", "KB", "MB", "GB", "TB")


@click.command()
@click.option("--dry-run", is_flag=True, help="List what would be deleted and what stays; delete nothing.")
@as_json_option
def clean(dry_run: bool, as_json: bool) -> None:
    """Delete builds that nothing needs any more.

    What runs stays, and what history can go back to (REFLOAT_KEEP_RELEASES versions of each service). Caches
    and clones go only while the disk budget (REFLOAT_DISK_BUDGET) is used up.
    """
    server = client()
    cluster = _local_cluster(server)
    if dry_run:
        found = server.get(f"/refloat/cluster/{cluster}/garbage")
    else:
        found = server.post(f"/refloat/cluster/{cluster}/clean")
    if as_json:
        print_json(found)
        return
    for it in sorted(found["results"], key=lambda it: (not it["goes"], it["service_name"] or "", it["path"])):
        word = "stays" if not it["goes"] else "would go" if dry_run else "deleted"
        why = f"  ({it['reason']})" if it["reason"] and not it["goes"] else ""
        name = it["service_name"] or it["service_id"]
        click.echo(f"{word:<9} {_amount(it['bytes']):>10}  {name}: {it['kind']} {it['path']}{why}")
    gone = sum(it["bytes"] for it in found["results"] if it["goes"])
    budget = f" of {_amount(found['budget_bytes'])}" if found["budget_bytes"] else ""
    told = "would be freed" if dry_run else "freed"
    click.echo(f"{_amount(gone)} {told}; builds use {_amount(found['used_bytes'])}{budget}")


def _local_cluster(server: Any) -> str:
    for organization in server.get("/organization")["results"]:
        for cluster in server.get(f"/organization/{organization['id']}/cluster")["results"]:
            if cluster["refloat_kind"] == "local":
                return str(cluster["id"])
    raise Problem("this token reaches no local cluster", hint="use the administrator's token")


def _amount(number: int) -> str:
    amount, unit = float(number), 0
    while amount >= 1000 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.0f} {_UNITS[unit]}" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"


COMMANDS = (clean,)
