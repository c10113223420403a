"""Evaluate a compressed model: its score, a bound on the score that it lost, and the layers that cost most."""
