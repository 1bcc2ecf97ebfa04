"""Settings of the section `log`."""

from pydantic import field_validator

from aistudio.config.base import Settings
from aistudio.places import resolve_place


class LogSettings(Settings):
    """A tracking server that finished work is reported to. No part of a run's shape; its failure is a warning."""

    mlflow: str | None = None  # address of MLflow's tracking server, or a folder for its file store; null: nowhere
    experiment: str = "aistudio"  # of MLflow: runs and trainings become its runs

    @field_validator("mlflow", mode="after")
    @classmethod
    def _server_or_folder(cls, place: str | None) -> str | None:
        return None if place is None else resolve_place(place, ("https", "http"))
