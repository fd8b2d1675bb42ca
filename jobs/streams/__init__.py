"""TCP streams of captures and datasets, as tables and files, by tasks on any scheduler."""
