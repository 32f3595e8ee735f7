//! Makes Rust of the `.proto` file, by a compiler in Rust: no `protoc` is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto/reports.proto");
    let files = protox::compile(["reports.proto"], ["proto"])?;
    tonic_prost_build::compile_fds(files)?;
    Ok(())
}
