//! Tells the sources that are included here that this is a model.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(model)");
    println!(
        "cargo::rustc-check-cfg=cfg(feature, values(\"dpop\", \"metrics\", \"redis\", \"session\"))"
    );
    println!("cargo::rustc-cfg=feature=\"dpop\"");
    println!("cargo::rustc-cfg=feature=\"session\"");
    println!("cargo::rustc-cfg=model");
}
