"""The one exception tree of Ayaz.

Every error that a user can cause is an `AyazError`; its text is one line that says what is wrong,
where, and what to do. The command line prints it and exits with status 1. Anything else that
escapes is a defect of ours.
"""


class AyazError(Exception):
    """Something outside us is wrong: the text says what, where, and what to do. `problems` holds every
    mistake found, one line each."""

    def __init__(self, problems: str | list[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("; ".join(self.problems))


class ConfigError(AyazError):
    """A configuration file is wrong."""


class DatabaseError(AyazError):
    """A DBC (or KCD, SYM, ARXML) file cannot be used."""


class SignalMapError(ConfigError):
    """A signal map is wrong or does not fit its database."""


class CellModelError(AyazError):
    """A cell model file is wrong."""


class LogError(AyazError):
    """A log of CAN frames cannot be read or written."""


class SourceError(AyazError):
    """A CAN interface cannot be opened or has failed."""


class DataError(AyazError):
    """A file of measured battery data is wrong."""


class ScenarioError(AyazError):
    """A simulation scenario or playback is wrong."""


class BatchError(AyazError):
    """A sealed item (batch, schema, event) or an acknowledgement is malformed."""


class SpoolError(AyazError):
    """The spool on disk cannot be opened, read or written."""


class BrokerError(AyazError):
    """The MQTT broker's address, certificate or answer is wrong."""


class StoreError(AyazError):
    """The depot's store cannot be opened, read or written."""


class DecodeError(AyazError):
    """The data of a frame can't be of its message: too short, or a multiplexer page that it has not."""
