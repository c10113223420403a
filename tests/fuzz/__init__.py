"""Damage campaigns against both decoders: ``make fuzz`` (C), ``make torture`` (Python). README.md beside this says how."""
