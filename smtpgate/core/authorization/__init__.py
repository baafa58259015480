"""Authorization of a message: the identity for each of its roles, and the policies' decision.

Bottom-up: ``context`` makes the values of condition keys, ``roles`` decides, ``charges`` lists
the limits that an allowed message counts against, ``reports`` handles a relay's reports.
"""
