"""The doctor: looks at all that a gate needs, and says what is wrong, why, and what to do.

``finding`` has the findings as a table. The other modules have the checks, each an asynchronous
generator of findings; they change nothing. The wiring (``gate/doctor.py``) has the table of the
checks, and runs them together.
"""
