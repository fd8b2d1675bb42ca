"""Connections of captures and datasets, and all packets of some of them, by tasks on any scheduler."""
