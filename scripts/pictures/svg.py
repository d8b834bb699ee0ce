"""The parts of all pictures. Inside a page they have the colors of the page, alone those of the system."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

STYLE = """
  .moq { --moq-fg: #222; --moq-quiet: #5f6368; --moq-line: #b8bcc2; color-scheme: light dark; }
  @media (prefers-color-scheme: dark) { .moq { --moq-fg: #e8eaed; --moq-quiet: #a5abb3; --moq-line: #5a6068; } }
  [data-md-color-scheme="default"] .moq { --moq-fg: #222; --moq-quiet: #5f6368; --moq-line: #b8bcc2; }
  [data-md-color-scheme="slate"] .moq { --moq-fg: #e8eaed; --moq-quiet: #a5abb3; --moq-line: #5a6068; }
  .moq text { font: 13px system-ui, sans-serif; fill: var(--moq-fg); }
  .moq .head { font-weight: 600; }
  .moq .mono { font-family: ui-monospace, monospace; }
  .moq .quiet { fill: var(--moq-quiet); }
  .moq .small { font-size: 11.5px; }
  .moq .center { text-anchor: middle; }
  .moq .end { text-anchor: end; }
  .moq .line { stroke: var(--moq-line); fill: none; }
  .moq .dashed { stroke-dasharray: 5 4; }
  .moq .arrow { stroke: var(--moq-fg); fill: none; stroke-width: 1.4; }
  .moq .tip { fill: var(--moq-fg); }
  .moq .node { stroke: var(--moq-quiet); fill: none; }
  .moq .both { fill: #2e9d62; fill-opacity: .28; }
  .moq .watch { fill: #3b82d0; fill-opacity: .24; }
  .moq .warm { fill: #d98324; fill-opacity: .26; }
  .moq .bad { fill: #d14343; fill-opacity: .2; }
"""


def picture(name: str, title: str, width: int, height: int, parts: Iterable[str]) -> str:
    """Return a whole picture. The ``name`` makes its ids unique on a page."""
    label = f'role="img" aria-labelledby="moq-{name}-title"'
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    head = f'<svg class="moq" xmlns="http://www.w3.org/2000/svg" {size} {label}>'
    described = f'<title id="moq-{name}-title">{escape(title)}</title>'
    return "\n".join([head, described, f"<style>{STYLE}</style>", *parts, "</svg>", ""])


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """Return a line of text that starts at ``x``, or has its middle or end there (``center``, ``end``)."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" xml:space="preserve">{escape(words, quote=False)}</text>'


def box(x: float, y: float, width: float, height: float, kind: str = "") -> str:
    """Return a box with round corners."""
    return f'<rect class="node {kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>'


def legend(x: float, y: float, kind: str, words: str) -> str:
    """Return a small box and what its color means."""
    return (
        f'<rect class="node {kind}" x="{x:g}" y="{y:g}" width="18" height="18" rx="4"/>\n{text(x + 26, y + 14, words)}'
    )


def arrow(start: float, end: float, y: float, kind: str = "") -> str:
    """Return a level arrow."""
    back = 7 if end > start else -7
    line = f'<path class="arrow {kind}" d="M{start:g} {y:g}H{end - back / 2:g}"/>'
    return f'{line}<path class="tip" d="M{end:g} {y:g}l{-back:g} -4v8z"/>'
