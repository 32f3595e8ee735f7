//! Counts by valgrind's callgrind, and what it writes (<https://valgrind.org/docs/manual/cl-format.html>).

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::scenes::Scene;

/// Instructions of all requests of a scene.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) plain: u64,
    /// Of digests and signatures. Valgrind knows no SHA extensions, so that digests take many times what
    /// they take outside of it, and would hide the rest.
    pub(crate) cryptography: u64,
}

/// Has the C library copy and compare memory in the same way on all processors.
const PLAIN_CPU: &str = "glibc.cpu.hwcaps=-AVX2,-AVX,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM";

/// Counts what a scene's requests take, in a process of its own.
pub(crate) fn count(scene: Scene) -> Result<Count> {
    let profile = profile_of(scene)?;
    let program = std::env::current_exe()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--vgdb=no", "--toggle-collect=*scenes::counted*"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .args([program.as_os_str(), "--play".as_ref(), scene.name.as_ref()])
        .env("GLIBC_TUNABLES", PLAIN_CPU)
        .stdin(Stdio::null())
        .output()
        .context("valgrind does not start; on Debian, `apt-get install valgrind`")?;
    ensure!(
        output.status.success(),
        "{} did not play:\n{}",
        scene.name,
        String::from_utf8_lossy(&output.stderr)
    );
    read(&std::fs::read_to_string(profile)?)
}

/// Where a scene's profile is, for `callgrind_annotate`.
pub(crate) fn profile_of(scene: Scene) -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/profiles");
    std::fs::create_dir_all(&folder)?;
    Ok(folder.join(format!("{}.out", scene.name)))
}

/// Adds up what functions take by themselves.
fn read(profile: &str) -> Result<Count> {
    let mut count = Count::default();
    let mut names = HashMap::new();
    let mut is_cryptography = false;
    let mut total = None;
    let mut lines = profile.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("fn=") {
            is_cryptography = of_cryptography(full(name, &mut names));
        } else if let Some(name) = line.strip_prefix("cfn=") {
            full(name, &mut names);
        } else if line.starts_with("calls=") {
            // What is called is told of there, too.
            lines.next();
        } else if let Some(cost) = line.strip_prefix("totals: ") {
            total = Some(cost.parse::<u64>()?);
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let cost =
                line.split_whitespace().nth(1).context("a line without a cost")?.parse::<u64>()?;
            *(if is_cryptography { &mut count.cryptography } else { &mut count.plain }) += cost;
        }
    }
    ensure!(
        total == Some(count.plain + count.cryptography),
        "the profile's parts are not its total"
    );
    Ok(count)
}

/// A name is written out the first time only, after its number: `(7) main`, then `(7)`.
fn full<'p>(name: &'p str, names: &mut HashMap<&'p str, &'p str>) -> &'p str {
    match name.split_once(' ') {
        Some((number, name)) => {
            names.insert(number, name);
            name
        }
        None => names.get(name).copied().unwrap_or(name),
    }
}

fn of_cryptography(function: &str) -> bool {
    let starts = ["sha2::", "ring::", "<ring::", "ring_core_"];
    starts.iter().any(|start| function.starts_with(start)) || function.contains("ecp_nistz256")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "\
events: Ir
fn=(1) tower_authlete::service::call
16 400
+2 30
cfi=(2) digest.rs
cfn=(2) sha2::sha256::compress256
calls=1 7
* 1000
-1 5
fn=(2)
7 1000
fn=(3) __ecp_nistz256_mul_montq
9 200
totals: 1635
";

    #[test]
    fn functions_are_told_apart_by_name_and_calls_do_not_count_twice() {
        assert_eq!(read(PROFILE).ok(), Some(Count { plain: 435, cryptography: 1200 }));
    }

    #[test]
    fn a_profile_that_was_not_understood_is_an_error() {
        assert!(read(&PROFILE.replace("1635", "1636")).is_err());
        assert!(read("").is_err());
    }
}
