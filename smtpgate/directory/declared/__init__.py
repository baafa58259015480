"""The directory as documents: kept under version control, applied in one transaction, exported.

``documents`` has what may stand in a file, ``read`` makes one ``content.Declared`` of what they
say, ``draft`` compares that with what ``present`` found in the database, and the ``plan`` that
comes out is carried out by ``apply``. ``export`` writes the same form.
"""
