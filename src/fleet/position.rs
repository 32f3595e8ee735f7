//! Where the log of invalidations stands, and whether what is read of it continues what was read before.

/// The state of the log in one bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// Changes with an invalidation of all tokens, and without a record if records may be lost.
    pub(super) generation: Vec<u8>,
    /// How many records were written.
    pub(super) number: u64,
    /// The ID of the last one.
    pub(super) id: String,
}

/// A record, as far as it tells the state of the log.
pub(super) struct Step {
    pub(super) number: Option<u64>,
    pub(super) id: String,
    /// The generation that it begins.
    pub(super) generation: Option<Vec<u8>>,
}

/// How what was read relates to a state of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// All records up to there are known.
    Reached,
    /// Records are to be read.
    Behind,
    /// Records may be lost.
    Broken,
}

impl Place {
    /// How what was read up to here relates to a state that was told later.
    pub(super) fn towards(&self, now: &Self) -> Progress {
        if self == now {
            Progress::Reached
        } else if self.number < now.number {
            Progress::Behind
        } else {
            // Fewer records, or other ones, or another generation without a record.
            Progress::Broken
        }
    }

    /// Goes on by a record, on the way to this state. Tells whether the record is the next one of the same log.
    pub(super) fn advance(&mut self, step: Step, to: Option<&Self>) -> bool {
        if step.number != Some(self.number + 1) {
            return false;
        }
        self.number += 1;
        self.id = step.id;
        if let Some(generation) = step.generation {
            self.generation = generation;
        }
        // There, it has to be the same state. Records that were written since are read on the way, too.
        to.is_none_or(|to| self.number != to.number || self == to)
    }
}

/// The same for all buckets.
pub(super) fn progress(known: &[Place], now: &[Place]) -> Progress {
    let each = || known.iter().zip(now).map(|(known, now)| known.towards(now));
    if known.len() != now.len() || each().any(|it| it == Progress::Broken) {
        Progress::Broken
    } else if each().any(|it| it == Progress::Behind) {
        Progress::Behind
    } else {
        Progress::Reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(generation: &str, number: u64) -> Place {
        Place { generation: generation.into(), number, id: format!("{number}-0") }
    }

    fn step(number: u64) -> Step {
        Step { number: Some(number), id: format!("{number}-0"), generation: None }
    }

    #[test]
    fn a_log_with_fewer_records_is_another_one() {
        let known = [place("a", 5)];
        assert_eq!(progress(&known, &[place("a", 5)]), Progress::Reached);
        assert_eq!(progress(&known, &[place("a", 7)]), Progress::Behind);
        assert_eq!(progress(&known, &[place("a", 4)]), Progress::Broken);
        assert_eq!(progress(&known, &[place("b", 0)]), Progress::Broken);
        assert_eq!(progress(&known, &[place("b", 5)]), Progress::Broken);
        assert_eq!(progress(&known, &[]), Progress::Broken);
        let other = Place { id: "0-0".into(), ..place("a", 5) };
        assert_eq!(progress(&known, &[other]), Progress::Broken);
    }

    #[test]
    fn a_state_is_compared_where_it_is_passed() {
        let (same, other) = (place("a", 6), place("b", 6));
        for (to, continues) in [(None, true), (Some(&same), true), (Some(&other), false)] {
            let mut known = place("a", 5);
            assert_eq!(known.advance(step(6), to), continues);
            assert!(known.advance(step(7), to));
        }
        let begins = Step { generation: Some("b".into()), ..step(6) };
        assert!(place("a", 5).advance(begins, Some(&other)));
        assert!(!place("a", 5).advance(step(7), None));
        assert!(!place("a", 5).advance(Step { number: None, ..step(6) }, None));
    }
}
