"""May this principal send this message: which identity serves each role, and what policies say.

Bottom-up: ``context`` makes the condition keys' values, ``roles`` decides, ``charges`` says
which limits a permitted message counts against, ``reports`` treats a relay's reports.
"""
