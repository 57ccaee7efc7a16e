"""Report on a run: the page on which a person reviews and corrects it, the terminal's table, figures and previews."""

from .page import write_report as write_report
from .plain_words import unsure as unsure
