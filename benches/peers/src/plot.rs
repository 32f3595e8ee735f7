//! The overheads as bars.

use std::{error::Error, path::Path};

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::table::{Row, Table};

const WIDTH: u32 = 760;
const ROW: i32 = 44;
const TOP: i32 = 56;
/// Where bars begin.
const LEFT: i32 = 190;
/// How long a bar for ten times as much is longer.
const DECADE: f64 = 145.0;
/// What a bar of no length stands for (ns).
const ORIGIN: f64 = 10.0;

/// Draws one bar for each contender that protects, ours in another colour.
pub(crate) fn draw(table: &Table, file: &Path) -> Result<(), Box<dyn Error>> {
    let rows = table.protected();
    let height = TOP + ROW * rows.len() as i32 + 16;
    let area = SVGBackend::new(file, (WIDTH, height.unsigned_abs())).into_drawing_area();
    area.fill(&WHITE)?;
    let title = "What protection adds to a request whose token is known (median, log scale)";
    area.draw(&label(title, (16, TOP / 2), 17.0, HPos::Left))?;
    for (index, row) in rows.iter().enumerate() {
        let middle = TOP + ROW * index as i32 + ROW / 2;
        let colour = if index == 0 { RGBColor(38, 110, 189) } else { RGBColor(160, 160, 160) };
        let end = LEFT + length(row);
        let bar = [(LEFT, middle - ROW / 3), (end, middle + ROW / 3)];
        area.draw(&label(row.name, (LEFT - 10, middle), 15.0, HPos::Right))?;
        area.draw(&Rectangle::new(bar, colour.filled()))?;
        let value = format!("{:.0} ns", row.overhead.median);
        area.draw(&label(&value, (end + 8, middle), 15.0, HPos::Left))?;
    }
    area.present()?;
    Ok(())
}

fn length(row: &Row) -> i32 {
    let decades = (row.overhead.median / ORIGIN).max(1.0).log10();
    (decades * DECADE).round() as i32
}

fn label(text: &str, at: (i32, i32), size: f64, side: HPos) -> Text<'static, (i32, i32), String> {
    let style =
        ("sans-serif", size).into_text_style(&(WIDTH, WIDTH)).pos(Pos::new(side, VPos::Center));
    Text::new(text.to_owned(), at, style)
}
