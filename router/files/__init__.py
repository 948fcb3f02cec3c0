"""Files that people hand in: zips and folders of DICOM."""
