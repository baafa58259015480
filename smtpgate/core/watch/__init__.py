"""The watch over access keys: the use of a key judged against its own history.

:mod:`.sketch` has bounded memories, :mod:`.profile` the profile of a key, :mod:`.signals` the
table of signals and the score; :mod:`.observe` puts them together.
"""
