"""From a segmentation to DICOM SEG, SR, key image, ORU and FHIR. Read first: encode.py."""
