"""CardiacSegLib: from a patient's cardiac cine MR to millilitres. Importing it never loads torch."""

from __future__ import annotations

__version__ = "0.1.0"

#: Stands beside every figure that a person may read.
DISCLAIMER = "Research software, not a medical device."
