"""Entropy coding of symbols: the adaptive coder, the static ANS coder with its tables, steps, and the trellis."""
