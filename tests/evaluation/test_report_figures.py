"""What the figures of a report show: every number at its place, axes that say what they are, text that can be read."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from run_folders import falling, write_run

from mlvl_fairseq.evaluation.report import ReportOptions, drawing, panels, read_runs, summarise
from mlvl_fairseq.evaluation.report.formats import pictures

LANGUAGES = ["en", "de", "fr"]
OPTIONS = ReportOptions("out", metric="r_mean", ndigits=1)  # r_mean is the last of seven metrics: falling(0, 0, 6) = 56


def better(step, j, m):
    return falling(step, j, m) + 5 * (step - j) + 2  # forgets 5 points a language, not 10


@pytest.fixture
def report(tmp_path):
    """`naive`, whose score on German after French is missing, and `ours`."""
    write_run(tmp_path / "naive", "naive", LANGUAGES, lambda *at: None if at[:2] == (2, 1) else falling(*at))
    write_run(tmp_path / "ours", "ours", LANGUAGES, better)
    return summarise(read_runs([tmp_path]))


def texts_of(ax):
    """Row and column -> the text there."""
    return {tuple(map(int, text.get_position()[::-1])): text for text in ax.texts}


def test_a_matrix_has_every_score_in_its_cell(report):
    figure = Figure()
    panels.draw_matrices(figure, report.methods, panels.limits_of(report, "r_mean"), OPTIONS)
    shown = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title() for ax in shown] == ["naive", "ours"]
    for ax, score in zip(shown, (falling, better)):
        cells = {place: text for place, text in texts_of(ax).items() if not text.get_text().startswith("AA")}
        assert cells.keys() == {(step, j) for step in range(3) for j in range(step + 1)}
        for (step, j), text in cells.items():
            missing = score is falling and (step, j) == (2, 1)
            assert text.get_text() == ("n/a" if missing else f"{score(step, j, 6):.1f}")
            assert (text.get_ha(), text.get_va()) == ("center", "center")
        assert ax.get_xlabel() == "r_mean on"
        assert [label.get_text() for label in ax.get_xticklabels()] == LANGUAGES
        assert [label.get_text() for label in ax.get_yticklabels()] == LANGUAGES
        assert ax.images[0].get_clim() == (36.0, 58.0)  # the lowest and highest of both: one set of colours
    assert [ax.get_ylabel() for ax in shown] == ["after learning", ""]
    hatched = [[patch for patch in ax.patches if isinstance(patch, Rectangle) and patch.get_hatch()] for ax in shown]
    assert [len(patches) for patches in hatched] == [1, 0] and hatched[0][0].get_xy() == (0.5, 1.5)
    assert [text.get_text() for ax in shown for text in ax.texts if text.get_text().startswith("AA")] == [
        "AA n/a, F n/a",
        "AA 53.0, F 7.5",  # (48 + 53 + 58) / 3; (10 + 5) / 2
    ]


@pytest.mark.parametrize("count, grid", [(1, (1, 1)), (2, (1, 2)), (3, (1, 3)), (4, (2, 2)), (5, (2, 3)), (7, (3, 3))])
def test_matrices_are_in_an_even_grid(count, grid):
    assert panels._grid(count) == grid


def test_numbers_can_be_read_on_every_colour():
    assert drawing._readable_on((0, 0, 0, 1)) == drawing._readable_on((0.2, 0.2, 1, 1)) == "white"
    assert drawing._readable_on((1, 1, 1, 1)) == drawing._readable_on((0.2, 1, 0.2, 1)) == drawing.TEXT


def test_curves_are_averages_and_forgetting_with_their_last_value(report):
    figure = Figure(layout="constrained")
    panels.draw_scores(figure, report, OPTIONS)
    left, right = figure.axes
    assert (left.get_ylabel(), right.get_ylabel()) == ("r_mean in %", "r_mean points lost")
    assert "AA (higher is better)" in left.get_title() and "F (lower is better)" in right.get_title()
    assert left.get_xlabel() == right.get_xlabel() == "after learning"
    curves = {line.get_label(): line.get_ydata() for line in left.lines}
    np.testing.assert_allclose(curves["ours"], [58, (53 + 58) / 2, 53])
    np.testing.assert_allclose(curves["naive"][:2], [56, (46 + 56) / 2])
    assert np.isnan(curves["naive"][2])
    lost = {line.get_label(): line.get_ydata() for line in right.lines}
    np.testing.assert_allclose(lost["ours"][1:], [5, 7.5])
    assert [label.get_text() for label in left.get_xticklabels()] == LANGUAGES
    assert [text.get_text() for text in left.texts] == ["53.0"] and [t.get_text() for t in right.texts] == ["7.5"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["naive", "ours"]


def test_other_orders_are_counted_instead_of_named(tmp_path):
    write_run(tmp_path / "a", "naive", LANGUAGES, falling)
    write_run(tmp_path / "b", "ours", ["en", "fr", "de"], better)
    figure = Figure()
    panels.draw_scores(figure, summarise(read_runs([tmp_path])), OPTIONS)
    assert figure.axes[0].get_xlabel() == "languages learned"
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["1", "2", "3"]


def test_final_scores_are_sorted_by_their_average(tmp_path):
    write_run(tmp_path / "naive", "naive", LANGUAGES, falling)
    write_run(tmp_path / "ours", "ours", LANGUAGES, better)
    report, figure = summarise(read_runs([tmp_path])), Figure()
    panels.draw_final(figure, report, OPTIONS)
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["ours   53.0", "naive   46.0"]
    columns = [label.get_text() for label in ax.get_xticklabels()]
    cells = texts_of(ax)
    for row, score in enumerate((better, falling)):
        for column, language in enumerate(columns):
            assert cells[row, column].get_text() == f"{score(2, LANGUAGES.index(language), 6):.1f}"
    assert ax.get_title() == "Final models: AA, then r_mean on each language"
    assert figure.axes[1].get_ylabel() == "r_mean in %"


def test_the_picture_of_a_report_has_both_parts_in_their_proportion(report):
    figure = pictures._report_figure(report, OPTIONS)
    curves, matrices = panels.curves_size(report), panels.matrices_size(report.methods)
    assert figure.get_size_inches() == pytest.approx(
        (max(curves[0], matrices[0]), pictures.TITLE_HEIGHT + curves[1] + matrices[1])
    )
    top, bottom = figure.subfigs
    assert top.bbox.height / bottom.bbox.height == pytest.approx(curves[1] / matrices[1])
    left, middle, right = bottom.subfigs  # what is narrower than the curves stands in the middle
    assert left.bbox.width == pytest.approx(right.bbox.width)
    assert middle.bbox.width / bottom.bbox.width == pytest.approx(matrices[0] / curves[0])
    assert len([ax for ax in middle.axes if ax.images]) == 2 and len(top.axes) == 2
    assert figure.get_suptitle() == pictures._title(report)


def test_sizes_leave_room_for_numbers(report):
    assert panels.curves_size(report) == (12.0, 3.5 + 0.3)
    assert panels.matrices_size(report.methods) == pytest.approx((2 * (2.2 + 0.9) + 0.9, 2.2 + 1.5))
    assert panels.final_size(report) == pytest.approx((7.0, 2 * 0.36 + 1.6))
    assert (drawing.cell_inches(12), drawing.cell_inches(13), drawing.cell_inches(13, False)) == (0.52, 0.34, 0.115)
    assert (drawing.cell_font(12), drawing.cell_font(13)) == (9.0, 6.0)
