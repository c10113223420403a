"""Damage campaigns against both decoders: ``make fuzz`` (C), ``make torture`` (Python)."""
