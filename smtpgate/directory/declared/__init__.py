"""The directory as documents: kept under version control, applied in one transaction, exported.

``documents`` has what may stand in a file, ``read`` makes one ``content.Declared`` of what they
say. ``draft`` compares three columns: what documents said ``before``, what they say now
(``said`` has both, field by field), and what ``present`` found in the database (``held`` has it
in the same fields). The ``plan`` that comes out is carried out by ``apply``. ``export`` writes
the same form.
"""
