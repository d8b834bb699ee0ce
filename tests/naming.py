"""Names of parametrized tests that are the same in each process that runs a part of them."""


def named(value: object) -> str:
    """Return the repr of a parameter, or its type where the repr has an address in memory."""
    text = repr(value)
    return type(value).__name__ if " at 0x" in text else text
