"""Measurements, not tests: ``make bench`` prints them, nothing fails on a slow machine."""
