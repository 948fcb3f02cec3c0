"""From DICOM files to arrays: slices, codecs, preprocessing. Read first: slices.py."""
