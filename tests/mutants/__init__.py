"""Do the tests find bugs? Mutants: bugs of one line, planted one at a time.

``make mutants`` takes the table of ``python_rooms.py`` and ``c_sources.py``. It plants each mutant in a copy of the
repository, runs the tests of that module, and expects one of them to fail. A mutant that survives is a gap: write a
test that kills it, or give its reason in the table if it does what the code does. ``python -m tests.mutants fold.py``
takes only those whose path or text has that word.

The run ends with exit code 1 where a mutant without a reason survived, or one with a reason was killed. ``make test``
runs no mutants, but checks that the text of each still stands in its file exactly once.
"""
