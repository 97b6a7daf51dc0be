"""Writes the chart."""

from deploy.helm.source.chart import write

write()
