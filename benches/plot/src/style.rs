//! How all pictures look.

use std::error::Error;

use plotters::{
    element::Text,
    style::{
        IntoTextStyle, RGBColor,
        text_anchor::{HPos, Pos, VPos},
    },
};

pub(crate) const WIDTH: u32 = 800;
/// Where the title stands, and where what it is about begins (pixels from above).
pub(crate) const TITLE: i32 = 28;
pub(crate) const TOP: i32 = 56;
pub(crate) const TITLE_SIZE: f64 = 19.0;
pub(crate) const LABEL_SIZE: f64 = 16.0;

pub(crate) const OURS: RGBColor = RGBColor(38, 110, 189);
pub(crate) const OTHERS: RGBColor = RGBColor(160, 160, 160);

/// Why nothing was drawn.
pub type DrawError = Box<dyn Error + Send + Sync>;

pub(crate) fn label(
    text: &str,
    at: (i32, i32),
    size: f64,
    side: HPos,
) -> Text<'static, (i32, i32), String> {
    let style =
        ("sans-serif", size).into_text_style(&(WIDTH, WIDTH)).pos(Pos::new(side, VPos::Center));
    Text::new(text.to_owned(), at, style)
}

/// A number with a space before every third digit.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}
