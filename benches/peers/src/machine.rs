//! The machine that figures are of.

use std::{fs, thread::available_parallelism};

/// Extensions that decide how fast digests and copies are.
const EXTENSIONS: [&str; 2] = ["sha_ni", "avx512f"];

/// The machine's processor, and how many cores it has for this process: Linux tells the processor.
pub(crate) fn name() -> String {
    let cores = available_parallelism().map_or(1, usize::from);
    let processor = fs::read_to_string("/proc/cpuinfo").map(|text| processor(&text));
    let processor = processor.unwrap_or_else(|_| std::env::consts::ARCH.into());
    format!("{processor}; {cores} cores")
}

/// The first processor that `/proc/cpuinfo` tells of.
fn processor(cpuinfo: &str) -> String {
    let fields = || cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let field = |name| fields().find(|(key, _)| key.trim() == name).map(|(_, it)| it.trim());
    let model = field("model name").unwrap_or(std::env::consts::ARCH);
    let number = field("cpu family").zip(field("model"));
    let number = number
        .map_or(String::new(), |(family, model)| format!(" (family {family}, model {model})"));
    let flags: Vec<_> = field("flags").unwrap_or_default().split(' ').collect();
    let extension = |name: &&str| {
        let with = if flags.contains(name) { "with" } else { "without" };
        format!(", {with} {name}")
    };
    let extensions = EXTENSIONS.iter().map(extension).collect::<String>();
    format!("{model}{number}{extensions}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named_by_model_and_extensions() {
        let cpuinfo = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n\
                       flags\t\t: fpu sha_ni\n\nprocessor\t: 1\nmodel name\t: other\n";
        let named = "AMD EPYC (family 25, model 17), with sha_ni, without avx512f";
        assert_eq!(processor(cpuinfo), named);
        assert!(processor("").starts_with(std::env::consts::ARCH));
    }
}
