"""The folder data set with its manifest."""

from mage_project.utils.step import step  # type: ignore[import-not-found]  # Mage puts the project on the path

if "data_exporter" not in globals():  # Mage puts its own decorator there
    from mage_ai.data_preparation.decorators import data_exporter  # type: ignore[import-not-found]  # in Mage's environment


@data_exporter  # type: ignore[untyped-decorator] # Mage is not installed here
def export(source: str, *_: object, **variables: object) -> str:
    """Returns the step's folder."""
    folder: str = step("export", source, variables)
    return folder
