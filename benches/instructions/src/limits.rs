//! What requests may take, in `limits.toml`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use toml_edit::{DocumentMut, InlineTable, Item, value};

use crate::{callgrind::Count, limit::Limit, machine::Machine, report::Row, scenes::Scene};

pub(crate) struct Limits(DocumentMut);

impl Limits {
    pub(crate) fn read() -> Result<Self> {
        let text = std::fs::read_to_string(file())?;
        Ok(Self(text.parse().context("limits.toml")?))
    }

    pub(crate) fn of(&self, scene: Scene) -> Option<Limit> {
        let limit = self.0.get("limits")?.get(scene.name)?;
        let count = |name| u64::try_from(limit.get(name)?.as_integer()?).ok();
        let tolerance = limit.get("tolerance_percent").or(self.0.get("tolerance_percent"))?;
        Some(Limit {
            count: Count { plain: count("instructions")?, cryptography: count("cryptography")? },
            tolerance_percent: tolerance
                .as_float()
                .or(tolerance.as_integer().map(|it| it as f64))?,
        })
    }

    /// In what the machine that the limits were taken on was another one.
    pub(crate) fn differences(&self, machine: &Machine) -> Vec<String> {
        let then = |name| self.0.get("taken_with")?.get(name)?.as_str();
        let tools = machine.tools().iter();
        let others = tools.filter(|(name, now)| then(name) != Some(now));
        others
            .map(|(name, now)| format!("{} then, {now} now", then(name).unwrap_or("unknown")))
            .collect()
    }

    /// Writes down what was counted, and leaves tolerances as they are.
    pub(crate) fn bless(&mut self, rows: &[Row], machine: &Machine) -> Result<()> {
        for (name, version) in machine.tools() {
            self.0["taken_with"][name] = value(version);
        }
        for Row { scene, count, .. } in rows {
            let limit = &mut self.0["limits"][scene.name];
            if limit.is_none() {
                *limit = Item::Value(InlineTable::new().into());
            }
            limit["instructions"] = value(i64::try_from(count.plain)?);
            limit["cryptography"] = value(i64::try_from(count.cryptography)?);
        }
        Ok(std::fs::write(file(), self.0.to_string())?)
    }
}

fn file() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "limits.toml"].iter().collect()
}
