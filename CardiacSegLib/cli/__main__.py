"""``python -m CardiacSegLib.cli``, for ``torchrun``."""

from __future__ import annotations

import sys

from CardiacSegLib.cli import main

sys.exit(main())
