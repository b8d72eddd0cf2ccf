"""Bytes as lines: where they begin and end, what stands around an element. Nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass

SPACE = b" \t"


@dataclass(frozen=True, slots=True, kw_only=True)
class Splice:
    """Replace the bytes from `start` to `end` by `text`."""

    start: int
    end: int
    text: bytes = b""


def line_start(text: bytes, at: int) -> int:
    """Return where the line that `at` is in begins."""
    return text.rfind(b"\n", 0, at) + 1


def line_end(text: bytes, at: int) -> int:
    """Return where the line after the one that `at` is in begins."""
    end = text.find(b"\n", at)
    return len(text) if end < 0 else end + 1


def lead(text: bytes, at: int) -> bytes:
    """Return what stands in the line before `at`."""
    return text[line_start(text, at) : at]


def indent(text: bytes, at: int) -> str:
    """Return the blanks that the line of `at` begins with."""
    line = lead(text, at)
    return line[: len(line) - len(line.lstrip(SPACE))].decode()


def only_comment_after(text: bytes, at: int) -> bool:
    """Say whether nothing but a TOML comment follows in the line."""
    rest = text[at : line_end(text, at)].strip()
    return not rest or rest.startswith(b"#")


def blank_before(text: bytes, at: int) -> bool:
    """Say whether the line before the one that begins at `at` is blank, or there is none."""
    return at == 0 or not text[line_start(text, at - 1) : at].strip()


def skip_blank_lines(text: bytes, at: int) -> int:
    """Return where the next line that is not blank begins; `at` is the beginning of a line."""
    while at < len(text) and not text[at : line_end(text, at)].strip():
        at = line_end(text, at)
    return at


def back_over_blank_lines(text: bytes, at: int) -> int:
    """Return where the blank lines before the line that begins at `at` begin."""
    while at > 0 and blank_before(text, at):
        at = line_start(text, at - 1)
    return at


def newline(text: bytes) -> bytes:
    """Return how the text ends its lines."""
    return b"\r\n" if b"\r\n" in text else b"\n"
