"""A message: header fields, the mailboxes they name, the sender's intent, the envelope.

Bottom-up: ``charsets`` and ``display_name`` decode, ``headers`` cuts and edits fields,
``author`` and ``resent`` read mailboxes, ``intent`` reads ``X-SES-*``, ``reading`` does all of
it in order.
"""
