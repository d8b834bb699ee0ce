"""The pictures of the documentation. Each is drawn from what the package computes, so that it stays true."""

from scripts.pictures import bars, flow, overview, paths, patterns, rotation, scopes

FIGURES = {
    "bars.svg": bars.figure,
    "flow.svg": flow.figure,
    "overview.svg": overview.figure,
    "paths.svg": paths.figure,
    "patterns.svg": patterns.figure,
    "rotation.svg": rotation.figure,
    "scopes.svg": scopes.figure,
}
