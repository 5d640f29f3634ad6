"""The command line: arguments in, exit code out. Results on stdout, progress and remarks on stderr.

Design: every command imports what it needs when it runs, so that ``--help``, ``render``, ``gate``, ``compare``,
``advise``, ``explain`` and ``init`` never import torch. All options of an audit travel as one `Settings`; whatever a
person got wrong is found before anything is computed.
"""

from ._main import main

__all__ = ["main"]
