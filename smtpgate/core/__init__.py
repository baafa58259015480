"""The knowledge of the gate: pure decisions over values, with no input, output or clock.

The modules read bottom-up: terms (addresses, ARNs, replies), the message's header block, policy
documents, then the decisions about one submission.
"""
