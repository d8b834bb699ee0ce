"""Adapters for other people's servers, each behind the extra of its name."""
