//! Overheads, and how they compare.

use std::fmt;

use plot::Bar;

use crate::{
    contender::Contender,
    timing::{Timing, median},
};

/// One row for each contender: the bare one, the one with an empty layer, ours, the one written
/// by hand, and others.
pub(crate) struct Table {
    rows: Vec<Row>,
    noise: f64,
}

struct Row {
    name: &'static str,
    minimum: f64,
    median: f64,
    overhead: Overhead,
}

/// Nanoseconds beyond the bare router.
#[derive(Clone, Copy)]
struct Overhead {
    minimum: f64,
    median: f64,
}

impl Table {
    pub(crate) fn new(contenders: &[Contender], timings: &[Timing]) -> Self {
        let bare = &timings[0];
        let row = |(contender, timing): (&Contender, &Timing)| {
            let (minimum, median) = (timing.minimum(), timing.median());
            let overhead =
                Overhead { minimum: minimum - bare.minimum(), median: median - bare.median() };
            Row { name: contender.name, minimum, median, overhead }
        };
        let rows = contenders.iter().zip(timings).map(row).collect();
        Self { rows, noise: bare.quantile(0.9) / bare.quantile(0.1) }
    }

    /// Those that protect beside ours.
    fn theirs(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().skip(3)
    }

    /// Our median overhead, to that of one of those.
    fn ratio(&self, theirs: &Row) -> f64 {
        self.rows[2].overhead.median / theirs.overhead.median
    }

    /// The median overheads of those that protect, ours first.
    pub(crate) fn bars(&self) -> Vec<Bar<'_>> {
        let protected = self.rows.iter().skip(2).enumerate();
        let bar = |(index, row): (usize, &Row)| {
            let Row { name, overhead, .. } = row;
            Bar { name, value: overhead.median, ours: index == 0 }
        };
        protected.map(bar).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [bare, empty, ours, protected @ ..] = self.rows.as_slice() else { return Ok(()) };
        writeln!(
            f,
            "{:24}{:>20}{:>22}{:>24}",
            "", "ns a request", "overhead (ns)", "ours / theirs"
        )?;
        writeln!(f, "{:24}{HEADS:>20}{HEADS:>22}{HEADS:>24}", "")?;
        writeln!(f, "{:24}{:>20}", bare.name, pair(bare.minimum, bare.median, 0))?;
        write!(f, "{empty}\n{ours}")?;
        for theirs in protected {
            let (of_ours, of_theirs) = (ours.overhead, theirs.overhead);
            let minimum = of_ours.minimum / of_theirs.minimum;
            let median = self.ratio(theirs);
            write!(f, "\n{theirs}{:>24}", pair(minimum, median, 3))?;
        }
        write!(f, "\n\nnoise: the bare router's p90 is {:.2} of its p10", self.noise)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Overhead { minimum, median } = self.overhead;
        let (times, overheads) = (pair(self.minimum, self.median, 0), pair(minimum, median, 0));
        write!(f, "{:24}{times:>20}{overheads:>22}", self.name)
    }
}

/// How ours compares by the medians of many runs.
pub(crate) struct Ratios<'t>(pub(crate) &'t [Table]);

impl fmt::Display for Ratios<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.0.first() else { return Ok(()) };
        writeln!(f, "{:24}{:>12}    of {} runs", "ours / theirs", "median", self.0.len())?;
        for (index, theirs) in first.theirs().enumerate() {
            let of = |table: &Table| table.theirs().nth(index).map(|theirs| table.ratio(theirs));
            let ratios: Vec<_> = self.0.iter().filter_map(of).collect();
            let each = ratios.iter().map(|ratio| format!(" {ratio:.3}")).collect::<String>();
            writeln!(f, "{:24}{:>12.3}   {each}", theirs.name, median(&ratios))?;
        }
        Ok(())
    }
}

const HEADS: &str = "min    median";

fn pair(minimum: f64, median: f64, decimals: usize) -> String {
    format!("{minimum:.decimals$}{median:>10.decimals$}")
}
