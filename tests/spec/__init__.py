"""docs/format.md as a program: a decoder written from that page alone, to be read beside it. Slow, and no part of it
comes from the package: what it accepts and what it makes of a file is compared with the readers in tests/fuzz."""
