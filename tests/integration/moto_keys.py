"""A plugin of pytest for the tests of moto: they sign with the keys of the environment.

Moto would have them use a key of its own, whose id is none that IAM makes.
"""

from moto.core.config import default_user_config  # type: ignore[import-not-found]

default_user_config["core"]["mock_credentials"] = False
