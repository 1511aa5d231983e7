//! The entry point for libFuzzer, which is guided by coverage. `cargo xtask fuzz --guided TARGET` builds
//! it with the flags that it needs, on the pinned toolchain, and names the target in the environment.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("HAUL_FUZZ_TARGET").expect("HAUL_FUZZ_TARGET names the target");
    fuzz::target(&name).unwrap_or_else(|| panic!("{name} is no fuzz target"))
});

fuzz_target!(|data: &[u8]| TARGET(data));
