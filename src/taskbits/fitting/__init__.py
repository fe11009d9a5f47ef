"""What methods share: training on references or on the metric, whole numbers of a wanted size, judging texts.

Guarantees nothing of quality: what it finds, scoring decides upon. Knows nothing of studies, budgets and other methods.
"""
