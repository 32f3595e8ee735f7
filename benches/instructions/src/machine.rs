//! What counts depend on beside the code.

use std::process::Command;

use anyhow::{Context, Result};

/// The tools that have a say in what is counted, and their versions.
pub(crate) struct Machine(Vec<(&'static str, String)>);

impl Machine {
    pub(crate) fn this() -> Result<Self> {
        // `ldd` is of the C library, and tells its version.
        let tools = [("rustc", "rustc"), ("valgrind", "valgrind"), ("libc", "ldd")];
        let versions = tools.into_iter().map(|(name, tool)| Ok((name, version_of(tool)?)));
        Ok(Self(versions.collect::<Result<_>>()?))
    }

    /// Names and versions.
    pub(crate) fn tools(&self) -> &[(&'static str, String)] {
        &self.0
    }
}

fn version_of(tool: &str) -> Result<String> {
    let output = Command::new(tool).arg("--version").output();
    let output = output.with_context(|| {
        format!("{tool} does not start; on Debian, it is installed by `apt-get install valgrind libc-bin`")
    })?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
