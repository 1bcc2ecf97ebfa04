"""Fixtures that the models' tests have too."""

from tests.models.conftest import s3, tiny

__all__ = ["s3", "tiny"]
