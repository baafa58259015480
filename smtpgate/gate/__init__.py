"""The gate's parts: each is opened from its section of the configuration by one function here.

``new_X`` makes a part from its section and asks nothing of it yet; ``open_X`` is a context
manager that also opens it, and closes it in every case. Both raise OpenError. ``serve``, the
commands and the tests all use them.
"""
