"""Prompt templates: text with {field} holes, and nothing else that `str.format` could do.

A template may come from a stranger's file, so attribute access, indexing and format widths are refused.
"""

import string

from taskbits.errors import UserError


def fields(template: str) -> list[str]:
    """Names of the holes, in order. Raises UserError on anything but plain text and {name}."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UserError(f"bad template {template[:200]!r}: {error}") from error
    names = [name for _, name, _, _ in parts if name is not None]
    if any(spec or conversion for _, _, spec, conversion in parts) or not all(n.isidentifier() for n in names):
        raise UserError(f"bad template {template[:200]!r}: only {{field}} is allowed between braces")
    return names


def fill(template: str, row: dict) -> str:
    """The template with its holes filled from the row. Raises KeyError if the row lacks a field."""
    return template.format_map(row)


def escape(text: str) -> str:
    """The template of which nothing but this text is made."""
    return text.replace("{", "{{").replace("}", "}}")


def as_percent(template: str) -> str:
    """The same template for the % operator, which is shorter to call."""
    parts = string.Formatter().parse(template)
    return "".join(text.replace("%", "%%") + (f"%({name})s" if name else "") for text, name, _, _ in parts)


def behind(template: str, text: str) -> str:
    """The template with a text right behind its last hole, or at its end if it has none."""
    last = tail(template) if fields(template) else ""
    return template.removesuffix(escape(last)) + escape(text) + escape(last)


def texts(template: str) -> list[str]:
    """The plain text before, between and behind the holes: one more piece than holes."""
    parts = [""]
    for text, name, _, _ in string.Formatter().parse(template):
        parts[-1] += text
        if name is not None:
            parts.append("")
    return parts


def head(template: str) -> str:
    """The plain text before the first hole."""
    return texts(template)[0]


def tail(template: str) -> str:
    """The plain text behind the last hole."""
    return texts(template)[-1]
