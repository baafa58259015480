"""Reputation: the bounce and complaint rates of senders, and what follows from them.

Mail counts for the account that sends it, also by an identity of another account. The rates are
of a representative volume (:mod:`volume`), a state follows from them by thresholds
(:mod:`states`), and a judgement may pause the sender (:mod:`judgement`).
"""
