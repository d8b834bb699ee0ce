"""The auth server that relays ask: what it remembers of their sessions, and (to come) its policy and its listeners."""
