"""The remote backend, against servers that run here."""
