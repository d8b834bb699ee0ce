"""The pictures of the documentation. Each is drawn from what the package computes, so that it stays true."""

from scripts.pictures import bars, flow, paths, patterns, rotation, scopes, terminal

FIGURES = {
    "bars.svg": bars.figure,
    "explain.svg": terminal.figure,
    "flow.svg": flow.figure,
    "paths.svg": paths.figure,
    "patterns.svg": patterns.figure,
    "rotation.svg": rotation.figure,
    "scopes.svg": scopes.figure,
}
