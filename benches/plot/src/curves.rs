//! Curves.

use std::path::Path;

use plotters::{prelude::*, style::text_anchor::HPos};

use crate::style::{
    DrawError, LABEL_SIZE, OTHERS, OURS, TITLE, TITLE_SIZE, TOP, WIDTH, grouped, label,
};

const HEIGHT: u32 = 440;
/// The room for the names of curves, after their last points.
const RIGHT: i32 = 190;
/// What names must be apart (pixels).
const APART: i32 = 20;

/// A curve.
pub struct Curve<'a> {
    pub name: &'a str,
    /// From the left to the right.
    pub points: Vec<(f64, f64)>,
    /// Whether it is one of those that the picture is about.
    pub ours: bool,
}

/// Draws curves into an SVG file, on logarithmic scales. The title should tell what is shown, and in
/// which unit.
///
/// # Errors
/// If the file cannot be written.
pub fn curves(
    file: &Path,
    title: &str,
    horizontally: &str,
    curves: &[Curve<'_>],
) -> Result<(), DrawError> {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let (left, right) = ends(points().map(|(x, _)| *x));
    let (low, high) = ends(points().map(|(_, y)| *y));
    let area = SVGBackend::new(file, (WIDTH, HEIGHT)).into_drawing_area();
    area.fill(&WHITE)?;
    area.draw(&label(title, (16, TITLE), TITLE_SIZE, HPos::Left))?;
    let mut chart = ChartBuilder::on(&area)
        .margin_top(TOP)
        .margin_right(RIGHT)
        .margin_bottom(10)
        .x_label_area_size(52)
        .y_label_area_size(72)
        .build_cartesian_2d((left..right).log_scale(), (low / 1.5..high * 1.5).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .label_style(("sans-serif", LABEL_SIZE))
        .axis_desc_style(("sans-serif", LABEL_SIZE))
        .x_desc(horizontally)
        .x_label_formatter(&|x| grouped(*x))
        .y_label_formatter(&|y| grouped(*y))
        .draw()?;
    let mut names = Vec::new();
    for curve in curves {
        let colour = if curve.ours { OURS } else { OTHERS };
        chart.draw_series(LineSeries::new(curve.points.iter().copied(), colour.stroke_width(2)))?;
        let dots = curve.points.iter().map(|point| Circle::new(*point, 3, colour.filled()));
        chart.draw_series(dots)?;
        names.extend(curve.points.last().map(|end| (chart.backend_coord(end), curve.name)));
    }
    for ((x, y), name) in spread(names) {
        area.draw(&label(name, (x + 10, y), LABEL_SIZE, HPos::Left))?;
    }
    area.present()?;
    Ok(())
}

/// The names, from above, none on another.
fn spread(mut names: Vec<((i32, i32), &str)>) -> Vec<((i32, i32), &str)> {
    names.sort_by_key(|((_, y), _)| *y);
    let mut free = i32::MIN;
    for ((_, y), _) in &mut names {
        *y = free.max(*y);
        free = *y + APART;
    }
    names
}

fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    })
}
