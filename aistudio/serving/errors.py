"""What the server refuses, and with which answer."""

from aistudio.errors import AIStudioError


class Refused(AIStudioError):
    """A request that cannot be answered: the HTTP status and a sentence for the visitor."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
