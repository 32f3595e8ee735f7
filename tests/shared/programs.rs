//! Programs that tests start, and that a machine may lack.

use std::{
    env,
    io::{self, Write},
    path::PathBuf,
};

/// The program of this name in `PATH`. If there is none, the caller returns: its test is skipped, which is
/// said on the standard error, with the Debian package that has the program.
///
/// # Panics
/// If there is none and `REQUIRE_PROGRAMS` is `1`.
pub(crate) fn find(program: &str, debian_package: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|it| it.join(program)).find(|file| file.is_file());
    if found.is_none() {
        let missing = format!("no program {program} (Debian package {debian_package})");
        assert!(env::var_os("REQUIRE_PROGRAMS").is_none_or(|it| it != "1"), "{missing}");
        // In one piece, and not by `eprintln!`, which test runners capture and show for failed tests only.
        let _ = io::stderr().write_all(format!("skipped: {missing}\n").as_bytes());
    }
    found
}
