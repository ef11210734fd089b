"""The edge agent: camera streams in, detection messages out. Imports `schemas` and nothing else of sightflow."""
