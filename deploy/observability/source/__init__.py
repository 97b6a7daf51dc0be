"""The dashboards as code, so that their panels are alike: `python -m deploy.observability.source` writes the JSON."""

from typing import Final

from deploy.observability.source.broker import BROKER
from deploy.observability.source.generator import GENERATOR
from deploy.observability.source.jobs import JOBS
from deploy.observability.source.overview import OVERVIEW
from deploy.observability.source.predictor import PREDICTOR
from deploy.observability.source.quality import QUALITY
from deploy.observability.source.render import render
from deploy.observability.source.tenants import TENANTS

__all__ = ["DASHBOARDS", "render"]

DASHBOARDS: Final = (OVERVIEW, QUALITY, GENERATOR, PREDICTOR, JOBS, TENANTS, BROKER)
