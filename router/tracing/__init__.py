"""A study's journey as OpenTelemetry spans. Read first: tracer.py."""
