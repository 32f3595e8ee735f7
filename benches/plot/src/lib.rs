//! The pictures of what is measured, in one style: bars and curves, as SVG.

mod bars;
mod curves;
mod style;

pub use self::{
    bars::{Bar, bars},
    curves::{Curve, curves},
    style::DrawError,
};
