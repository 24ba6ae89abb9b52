"""`python -m tellapart`: the command line."""

from tellapart.cli.main import run

if __name__ == "__main__":
    run()
