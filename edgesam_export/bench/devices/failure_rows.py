"""One way of failing as data: how to recognise it, what it means, what to do, and how often to try again."""

from __future__ import annotations

from dataclasses import dataclass

from edgesam_export.errors import DeviceFailure

__all__ = ["RETRIES", "ErrorLink", "Failure", "Retry"]

ErrorLink = tuple[str, "int | None", str]
"""Domain, code and words of one error of a chain."""


@dataclass(frozen=True)
class Retry:
    """How often a command is tried, None being until a deadline, and the first wait, which doubles each time."""

    attempts: int | None
    first_wait_s: float = 0.0


RETRIES = {
    "never": Retry(1),
    "once": Retry(2, 2.0),
    "busy": Retry(4, 3.0),
    "transient": Retry(4, 1.0),
    "unlock": Retry(None, 3.0),
    "reconnect": Retry(None, 1.0),
    "expected": Retry(1),
}
"""Policies by name. ``expected`` marks what is normal while polling."""


@dataclass(frozen=True)
class Failure:
    """One row: an error matches by domain and code, by domain and words, by words alone, or by all three.

    ``domain`` is compared with the whole domain or with its last dotted parts; ``text`` in lower case, any of several
    separated by "|". ``only_in`` limits the row to commands of that name. A row with code and text stands before the
    row with that code alone.
    """

    kind: str
    domain: str | None
    code: int | None
    text: str | None
    meaning: str
    hint: str
    error: type[DeviceFailure]
    retry: str = "never"
    only_in: str | None = None

    def matches_code(self, link: ErrorLink) -> bool:
        """True when an error has this row's domain and code, and its words if the row has any."""
        domain, code, words = link
        if self.code is None or code != self.code or not same_domain(domain, self.domain):
            return False
        return self.text is None or self.has_words(words.lower())

    def matches_text(self, domain: str | None, words: str) -> bool:
        """True when words in lower case, of an error of this domain or of none, are this row's."""
        if self.text is None or self.code is not None:
            return False
        if self.domain is not None and (domain is None or not same_domain(domain, self.domain)):
            return False
        return self.has_words(words)

    def has_words(self, words: str) -> bool:
        """True when any of the row's alternatives is in words in lower case."""
        return any(part in words for part in (self.text or "").split("|"))


def same_domain(domain: str, expected: str | None) -> bool:
    """Return whether a domain is the expected one, whole or by its last dotted parts."""
    return expected is not None and (domain == expected or domain.endswith(f".{expected}"))
