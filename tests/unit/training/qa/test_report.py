"""The report shows the cases with errors first."""

from __future__ import annotations

from qa_cases import dataset, head, put, with_labels

from medai.training.qa.command import Survey, report, survey


def test_a_report_shows_the_cases_with_errors_first_and_counts_the_rest() -> None:
    examples = {f"case{number}": head(number) for number in range(7)}
    examples["empty"] = with_labels(put(slice(None), 0))
    examples["pieces"] = with_labels(put((16, 16, 16), 1))
    found_here: Survey = survey(dataset(examples))
    page = report(found_here, pictures=1)
    assert page.index("<h3>empty</h3>") > 0
    assert "<h3>pieces</h3>" not in page
    assert "Cases with findings but without a picture: 1;" in page
