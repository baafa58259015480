"""The use cases: what a person may do to the gate, at the command line or over HTTP.

A function here takes a session (who acts, with which rights, on which directory) and values,
and returns values. It checks the session's rights, asks and changes the directory, and prints
nothing.
"""
