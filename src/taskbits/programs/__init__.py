"""What is added to M: the file, its coders, what decodes it, and the standalone file whose size is its length.

Guarantees that what decodes is what its maker wrote. Knows nothing of how a program is found, nor of what it scores.
"""
