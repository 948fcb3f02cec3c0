"""Add copies of the training cases."""

from mage_project.utils.step import step  # type: ignore[import-not-found]  # Mage puts the project on the path

if "transformer" not in globals():  # Mage puts its own decorator there
    from mage_ai.data_preparation.decorators import transformer  # type: ignore[import-not-found]  # in Mage's environment


@transformer  # type: ignore[untyped-decorator] # Mage is not installed here
def augment(source: str, *_: object, **variables: object) -> str:
    """Returns the step's folder."""
    folder: str = step("augment", source, variables)
    return folder
