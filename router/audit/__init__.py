"""The audit trail told to others: DICOM audit messages by syslog over TLS, and FHIR AuditEvents.

Read events.py first (what a line means), then exporter.py (how it gets there).
"""
