"""taskbits: how many bytes must be added to a language model before it does my task well enough?"""

__version__ = "0.2.0"
