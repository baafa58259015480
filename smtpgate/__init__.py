"""smtpgate: an SMTP submission gateway with sending authorization for any upstream server.

Read ``pipeline.py`` first: it is the way of a message. ``core/`` decides, the other packages
carry out; ``ports.py`` names what the path of a message needs from the world.
"""

__all__ = ["__version__"]

__version__ = "0.1.0.dev0"
