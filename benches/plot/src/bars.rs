//! Bars.

use std::path::Path;

use plotters::{prelude::*, style::text_anchor::HPos};

use crate::style::{
    DrawError, LABEL_SIZE, OTHERS, OURS, TITLE, TITLE_SIZE, TOP, WIDTH, grouped, label,
};

const ROW: i32 = 46;
/// Where bars begin.
const LEFT: i32 = 200;
/// The room for the value after the longest bar.
const RIGHT: i32 = 90;

/// A bar.
pub struct Bar<'a> {
    pub name: &'a str,
    /// How long it is, in the unit of the picture.
    pub value: f64,
    /// Whether it is one of those that the picture is about.
    pub ours: bool,
}

/// Draws bars into an SVG file, on a logarithmic scale that begins at `origin`. The title should tell
/// that, and what is shown.
///
/// # Errors
/// If the file cannot be written.
pub fn bars(
    file: &Path,
    title: &str,
    unit: &str,
    origin: f64,
    bars: &[Bar<'_>],
) -> Result<(), DrawError> {
    let height = TOP + ROW * i32::try_from(bars.len())? + 16;
    let area = SVGBackend::new(file, (WIDTH, height.unsigned_abs())).into_drawing_area();
    area.fill(&WHITE)?;
    area.draw(&label(title, (16, TITLE), TITLE_SIZE, HPos::Left))?;
    let longest = bars.iter().map(|bar| decades(bar.value, origin)).fold(0.1, f64::max);
    let decade = f64::from(WIDTH.cast_signed() - LEFT - RIGHT) / longest;
    for (bar, row) in bars.iter().zip(0..) {
        let middle = TOP + ROW * row + ROW / 2;
        let end = LEFT + (decades(bar.value, origin) * decade).round() as i32;
        let corners = [(LEFT, middle - ROW / 3), (end, middle + ROW / 3)];
        let colour = if bar.ours { OURS } else { OTHERS };
        let value = format!("{} {unit}", grouped(bar.value));
        area.draw(&label(bar.name, (LEFT - 10, middle), LABEL_SIZE, HPos::Right))?;
        area.draw(&Rectangle::new(corners, colour.filled()))?;
        area.draw(&label(&value, (end + 8, middle), LABEL_SIZE, HPos::Left))?;
    }
    area.present()?;
    Ok(())
}

fn decades(value: f64, origin: f64) -> f64 {
    (value / origin).max(1.0).log10()
}
