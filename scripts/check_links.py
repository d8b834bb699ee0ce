"""Check that the target of every link of a built site exists: page, file and anchor.

    python scripts/check_links.py build/docs

External links are not followed, so a page that somebody else removes does not break the build. It is an error if a page
*loads* something from another site, because the site must work without a network.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LINKS = {"a": "href"}
LOADS = {"link": "href", "script": "src", "img": "src", "source": "src", "iframe": "src"}
# Browsers fetch these kinds of <link>. Others, such as the canonical address, are only informative.
FETCHED = {"stylesheet", "icon", "preload", "modulepreload", "manifest"}
# What a reference or an inclusion looks like on a page if it was not resolved.
UNRESOLVED = re.compile(r"\]\[|--8<--|:(?:attr|class|data|exc|func|meth|mod):|::\s*$")


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.places: set[str] = set()
        self.links: list[tuple[str, bool]] = []
        self.unresolved: list[str] = []
        self._verbatim = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.places |= {values[name] for name in ("id", "name") if name in values}
        self._verbatim += tag in {"pre", "code", "script", "style"}
        if tag in LINKS and LINKS[tag] in values:
            self.links.append((values[LINKS[tag]], False))
        elif tag in LOADS and LOADS[tag] in values and (tag != "link" or FETCHED & set(values.get("rel", "").split())):
            self.links.append((values[LOADS[tag]], True))

    def handle_endtag(self, tag: str) -> None:
        self._verbatim -= tag in {"pre", "code", "script", "style"}

    def handle_data(self, data: str) -> None:
        if not self._verbatim and UNRESOLVED.search(data):
            self.unresolved.append(data.strip())


def problems(site: Path) -> list[str]:
    """Return one line for each broken link."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = [] if pages else [f"{site}: no pages"]
    for path, page in pages.items():
        where = path.relative_to(site)
        found += [f"{where}: not resolved: {text}" for text in page.unresolved]
        for link, loaded in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                found += [f"{where}: loads {link}"] if loaded and parts.scheme != "data" else []
                continue
            if path.name == "404.html":
                continue  # the 404 page is shown at any address
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            if target.is_dir():
                target /= "index.html"
            if not target.is_relative_to(site.resolve()) or not target.is_file():
                found.append(f"{where}: {link} leads nowhere")
            elif parts.fragment and target.suffix == ".html":
                there = pages[site / target.relative_to(site.resolve())].places
                if unquote(parts.fragment) not in there and parts.fragment not in {"", "__skip"}:
                    found.append(f"{where}: {link}: there is no such place on the page")
    return found


def main(site: str) -> None:
    found = problems(Path(site))
    print("\n".join(found) or f"{site}: every link leads somewhere")
    sys.exit(bool(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
