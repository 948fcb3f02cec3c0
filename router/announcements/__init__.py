"""What scanners (MPPS) and archives (IAN) announce of a study by DICOM: the router's own listener.

Read first: read.py.
"""
