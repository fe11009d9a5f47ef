"""The one error that a person is meant to read."""


class UserError(Exception):
    """Bad input: one line that says what is wrong, where, and how to mend it.

    The command line prints it on stderr and exits with code 2.
    """
