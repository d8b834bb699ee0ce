"""The command line with longer time limits for a share: ``python -m tests.patient serve …``.

On a busy machine, a store and other servers may take longer to answer than a relay could wait.
"""

from moq_token.cli import run
from moq_token.server import ending, nudges
from moq_token.server.share import everywhere, node, sharing, store

SECONDS = 100

for module, names in (
    (store, ("DEADLINE_SECONDS", "CONNECT_SECONDS")),
    (sharing, ("START_SECONDS",)),
    (everywhere, ("RECEIPT_SECONDS",)),
    (node, ("OTHERS_WAIT_SECONDS",)),
    (ending, ("WAIT_SECONDS",)),
    (nudges, ("REQUEST_SECONDS",)),
):
    for name in names:
        assert hasattr(module, name)
        setattr(module, name, SECONDS)
sharing.Sharing.ask.__defaults__ = (SECONDS,)

if __name__ == "__main__":
    run()
