"""The one error that a person is meant to read, and any error in a line."""

import re

# The password of a URL, or of its query. Greedy: one that was not quoted may hold any letter, "/" and "@" too.
_PASSWORD = re.compile(r"(://[^:/@\s]*:)\S+@")
_SECRET = re.compile(r"([?&;]\w*(?:password|passwd|pwd|secret|token|signature|key)\w*=)[^&;\s'\"]+", re.IGNORECASE)


class UserError(Exception):
    """Bad input: one line that says what is wrong, where, and how to mend it, without the password of any URL.

    The command line prints it on stderr and exits with code 2.
    """

    def __init__(self, message: str = ""):
        super().__init__(hidden(message))


class StoreError(UserError):
    """A study's database or files can't be used: no fault of what was to be kept in them."""


def in_short(error: BaseException) -> str:
    """An error in one line, with its class unless it was made for people."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    text = hidden(lines[0][:300]) if lines else ""
    if isinstance(error, UserError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def hidden(text: str) -> str:
    """The text, with *** for the passwords of the URLs in it."""
    return _SECRET.sub(r"\1***", _PASSWORD.sub(r"\1***@", text))
