"""What relays and auth servers say to each other, as plain immutable data without I/O.

``Request`` and ``Grant`` are the contract of relays from 0.15 on, ``Question`` and ``Answer`` that
of relay 0.14 with ``auth_api``. Readers are tolerant: they ignore unknown members, take an absent member and ``null``
for the same, and any text for a transport or a role. Writers give the smallest form that every reader understands.
"""

from moq_token.contract.grant import Grant
from moq_token.contract.question import Answer, PublicPaths, Question
from moq_token.contract.request import Event, Peer, Request, Token, Usage

__all__ = ["Answer", "Event", "Grant", "Peer", "PublicPaths", "Question", "Request", "Token", "Usage"]
