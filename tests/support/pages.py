"""What the tests of pages share: hostile text, a measured metric, and a reader of tags."""

from __future__ import annotations

from html.parser import HTMLParser

EVIL = "</script><img src=x onerror=alert(1)>"


def metric(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.03, "high": value + 0.03, "n": 1000}


class Tags(HTMLParser):
    """Collects tags and addresses, and checks that tags close in order."""

    VOID = ("meta", "link", "img", "br", "input", "path", "use", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.unlabelled: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.names.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "action", "srcset")]
        self.ids += [v or "" for k, v in attrs if k == "id"]
        if (tag == "img" and not given.get("alt")) or (tag == "svg" and not given.get("aria-label")):
            self.unlabelled.append(tag)
        assert not any(k.startswith("on") for k, _ in attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert tag in self.VOID or self.open.pop() == tag
