"""The page on which a person looks through a run and corrects it: one file, no server, no network."""

from .page import write_report as write_report
