"""The directory as documents: kept under version control, applied in one transaction, exported.

``models`` are the documents' files, and ``read`` makes one :class:`~desired.Desired` of them.
A plan compares three columns, all of them in the fields of ``fields``: those ``last_applied``,
those desired now, and the ``current_fields`` of what ``current`` read from the database.
``plan_accounts`` makes the ``plan``, with ``plan_identities``, ``plan_keys`` and
``plan_limits`` on top of ``planning``; ``apply`` carries it out. ``export`` writes documents.
"""
