"""Entropy coding of symbols: static frequency tables and an asymmetric numeral system (ANS)."""
