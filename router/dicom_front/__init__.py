"""The relay before Orthanc's DICOM port: who may associate, how many at a time, and nobody else reaches the archive.

Next: relay.py (a connection from its first byte to its last), pdu.py (what its first PDU says).
"""
