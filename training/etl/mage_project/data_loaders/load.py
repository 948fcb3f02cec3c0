"""Fetch the cases: folders, DICOM or an Orthanc become NIfTI pairs."""

from mage_project.utils.step import step  # type: ignore[import-not-found]  # Mage puts the project on the path

if "data_loader" not in globals():  # Mage puts its own decorator there
    from mage_ai.data_preparation.decorators import data_loader  # type: ignore[import-not-found]  # in Mage's environment


@data_loader  # type: ignore[untyped-decorator] # Mage is not installed here
def load(*_: object, **variables: object) -> str:
    """Returns the step's folder."""
    folder: str = step("load", variables["data"], variables)
    return folder
