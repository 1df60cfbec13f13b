"""`refloat token`: the admin token, and tokens with smaller roles."""

import json
import os

import click

from refloat.cli.options import as_json_option, client, print_json

ROLES = ("viewer", "deployer", "manager", "admin")


@click.group(invoke_without_command=True)
@as_json_option
@click.pass_context
def token(context: click.Context, as_json: bool) -> None:
    """Print the admin token of this machine's installation."""
    if context.invoked_subcommand:
        return
    from refloat.cli.context import admin_token, with_remembered

    found = admin_token(with_remembered(os.environ))
    click.echo(json.dumps({"token": found}) if as_json else found)


@token.command("create")
@click.argument("name")
@click.option("--organization", metavar="NAME", help="What the token may reach. Default: the only one.")
@click.option("--role", type=click.Choice(ROLES), default="deployer", show_default=True)
@as_json_option
def create_token(name: str, organization: str | None, role: str, as_json: bool) -> None:
    """Make an API token and print it; it cannot be read again."""
    from refloat.cli.lookup import find_organization

    server = client()
    path = f"/organization/{find_organization(server, organization)['id']}"
    roles = server.get(f"{path}/availableRole")["results"]
    role_id = next(it["id"] for it in roles if it["name"].lower() == role)
    made = server.post(f"{path}/apiToken", {"name": name, "role_id": role_id})
    if as_json:
        print_json(made)
    else:
        click.echo(made["token"])


COMMANDS = (token,)
