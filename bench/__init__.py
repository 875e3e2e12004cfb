"""Measurements beside their peers; results go to build/bench/NAME.json."""
