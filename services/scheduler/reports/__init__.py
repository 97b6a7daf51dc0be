"""The parts that the reports of jobs share: HTML pages that need nothing else, their charts, and what they measure."""
