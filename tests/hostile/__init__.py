"""Small files made to harm a reader: README.md lists them, ``python -m tests.hostile`` writes it."""
