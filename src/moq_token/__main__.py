"""``python -m moq_token``: the command line."""

from moq_token.cli import run

if __name__ == "__main__":
    run()
