"""The error by which a source's reader rejects one record."""

from __future__ import annotations


class RejectedRecordError(Exception):
    """A source record that can't be used: `reason` is the word it is counted by, `detail` says what is wrong."""

    def __init__(self, record_id: str, reason: str, detail: str) -> None:
        super().__init__(f"{record_id}: {reason}: {detail}")
        self.record_id = record_id
        self.reason = reason
        self.detail = detail
