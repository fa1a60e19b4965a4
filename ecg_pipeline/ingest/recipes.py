"""How files are read into a waveform store, for the study file."""

from dataclasses import dataclass


@dataclass(frozen=True)
class IngestRecipe:
    """What a file must be to be used, and how many files make a shard."""

    minimum_seconds: float = 5.0
    largest_file_mb: float = 32.0
    files_per_shard: int = 1024

    def __post_init__(self) -> None:
        if not (self.minimum_seconds > 0 and self.largest_file_mb > 0 and self.files_per_shard > 0):
            raise ValueError("minimum_seconds, largest_file_mb and files_per_shard must be positive")
