//! What was counted beside what may be.

use std::fmt;

use crate::{callgrind::Count, limit::Limit, scenes::Scene};

pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    /// In what the machine is another than the one that the limits were taken on.
    pub(crate) differences: Vec<String>,
}

pub(crate) struct Row {
    pub(crate) scene: Scene,
    pub(crate) count: Count,
    pub(crate) limit: Option<Limit>,
}

/// One figure, and what it was.
struct Change {
    what: &'static str,
    now: u64,
    then: u64,
    tolerance_percent: f64,
}

impl Change {
    fn percent(&self) -> f64 {
        if self.now == self.then {
            return 0.0;
        }
        (self.now as f64 - self.then as f64) * 100.0 / self.then as f64
    }

    fn is_too_heavy(&self) -> bool {
        self.percent() > self.tolerance_percent
    }

    fn is_much_lighter(&self) -> bool {
        self.percent() < -self.tolerance_percent
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, now, then, tolerance_percent } = self;
        let percent = self.percent();
        write!(f, "{now} {what}, {then} before: {percent:+.1} % (allowed: {tolerance_percent} %)")
    }
}

impl Row {
    fn changes(&self) -> Vec<Change> {
        let Some(Limit { count: then, tolerance_percent }) = self.limit else { return Vec::new() };
        let change = |what, now, then| Change { what, now, then, tolerance_percent };
        vec![
            change("instructions", self.count.plain, then.plain),
            change("instructions of cryptography", self.count.cryptography, then.cryptography),
        ]
    }

    fn is_good(&self) -> bool {
        self.limit.is_some() && !self.changes().iter().any(Change::is_too_heavy)
    }
}

impl Report {
    /// Whether nothing takes more than it may.
    pub(crate) fn is_good(&self) -> bool {
        self.rows.iter().all(Row::is_good)
    }

    fn those(&self, which: fn(&Change) -> bool) -> Vec<String> {
        let rows = self.rows.iter();
        let lines = rows.flat_map(|row| {
            let changes = row.changes().into_iter().filter(which);
            changes.map(|change| format!("  {}: {change}\n", row.scene.name))
        });
        lines.collect()
    }

    fn without_limit(&self) -> Vec<String> {
        let rows = self.rows.iter().filter(|row| row.limit.is_none());
        rows.map(|row| format!("  {}\n", row.scene.name)).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:24} {:>12} {:>9}  {:>12} {:>9}",
            "", "instructions", "", "cryptography", ""
        )?;
        for row in &self.rows {
            let Row { scene, count, .. } = row;
            let percents: Vec<_> =
                row.changes().iter().map(|change| format!("{:+.1} %", change.percent())).collect();
            let percent = |index: usize| percents.get(index).map_or("no limit", String::as_str);
            let Count { plain, cryptography } = count;
            let (first, second) = (percent(0), percent(1));
            writeln!(
                f,
                "{:24} {plain:>12} {first:>9}  {cryptography:>12} {second:>9}",
                scene.name
            )?;
        }
        let parts = [
            (
                "Lighter than before, so lower the limits (--bless):",
                self.those(Change::is_much_lighter),
            ),
            ("No limit yet, so take one (--bless):", self.without_limit()),
            ("TOO HEAVY:", self.those(Change::is_too_heavy)),
        ];
        for (title, lines) in parts.iter().filter(|(_, lines)| !lines.is_empty()) {
            write!(f, "\n{title}\n{}", lines.concat())?;
        }
        if !self.those(Change::is_too_heavy).is_empty() {
            f.write_str(
                "\n`callgrind_annotate target/profiles/NAME.out` tells where they go, in benches/instructions.\n\
                 If it is worth that, take the limits anew there: cargo run --release -- --bless\n",
            )?;
        }
        if !self.differences.is_empty() {
            let what = "The limits were taken with other tools, which change counts, too; see benches/README.md:";
            write!(f, "\n{what}\n  {}\n", self.differences.join("\n  "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenes::SCENES;

    fn report(count: Count) -> Report {
        let then = Count { plain: 1000, cryptography: 0 };
        let limit = Some(Limit { count: then, tolerance_percent: 5.0 });
        Report { rows: vec![Row { scene: SCENES[0], count, limit }], differences: Vec::new() }
    }

    #[test]
    fn what_takes_more_than_it_may_fails_and_says_by_how_much() {
        let heavy = report(Count { plain: 1051, cryptography: 0 });
        assert!(!heavy.is_good());
        assert!(heavy.to_string().contains(
            "TOO HEAVY:\n  hit: 1051 instructions, 1000 before: +5.1 % (allowed: 5 %)\n"
        ));
        assert!(!report(Count { plain: 1000, cryptography: 3477 }).is_good());
    }

    #[test]
    fn what_stays_within_is_good() {
        let within = report(Count { plain: 1050, cryptography: 0 });
        assert!(within.is_good() && !within.to_string().contains("before"));
        assert!(report(Count { plain: 950, cryptography: 0 }).is_good());
    }

    #[test]
    fn what_became_much_lighter_is_good_but_said() {
        let light = report(Count { plain: 900, cryptography: 0 });
        assert!(light.is_good());
        assert!(light.to_string().contains("lower the limits"));
    }

    #[test]
    fn what_has_no_limit_fails() {
        let mut report = report(Count::default());
        report.rows[0].limit = None;
        assert!(!report.is_good() && report.to_string().contains("No limit yet"));
    }
}
