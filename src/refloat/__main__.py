"""`python -m refloat`: the command line by whichever interpreter is meant."""

from refloat.cli.main import main

main(prog_name="refloat")
