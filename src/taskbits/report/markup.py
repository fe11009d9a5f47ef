"""HTML and SVG elements from Python. Guarantees: text that is not an element already is always escaped."""

import html

# Control characters and overrides of the writing direction can hide what a text says: show where they are.
_VISIBLE = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"}
_VISIBLE |= dict.fromkeys((0x7F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\N{REPLACEMENT CHARACTER}")


class Markup(str):
    """Text that is markup already."""


def visible(text: object) -> str:
    """The text with a sign for whatever would hide or reorder it."""
    return str(text).translate(_VISIBLE)


def escape(text: object) -> Markup:
    """Make anything safe to stand between tags or in a quoted attribute."""
    return text if isinstance(text, Markup) else Markup(html.escape(visible(text)))


def h(tag: str, *children: object, **attributes: object) -> Markup:
    """An element. `class_` gives the attribute class, `data_x` gives data-x, and None no attribute."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    end = "" if tag == "input" else f"</{tag}>"  # Of the elements that can't hold others, the one that is used.
    return Markup(f"<{tag}{written}>{join(children)}{end}")


def join(children) -> Markup:
    """Elements and texts, one after the other."""
    return Markup("".join(map(escape, children)))
