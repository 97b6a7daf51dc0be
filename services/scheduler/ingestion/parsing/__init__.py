"""Documents of many formats become text in sections: one parser a file, found through one registry."""

from services.scheduler.ingestion.parsing.built_in import BUILT_IN
from services.scheduler.ingestion.parsing.document import Format, ParsedDocument, Section, Source
from services.scheduler.ingestion.parsing.registry import PARSING_VERSION, Formats, parse

__all__ = ["parse", "ParsedDocument", "Section", "Source", "Format", "Formats", "BUILT_IN", "PARSING_VERSION"]
