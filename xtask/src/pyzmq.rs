//! A Python with pyzmq, which clients of dync are tried with: an environment of its own below the build's folder, made
//! once, from the package registry.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::steps;

/// What it is called among the tools.
pub const NAME: &str = "pyzmq";
/// The version that tests were written with.
const REQUIREMENT: &str = "pyzmq==27.3.0";

/// Whether it is there.
pub fn is_there() -> bool {
    let python = folder().join("bin/python");
    let import = ["-c", "import zmq; assert zmq.has('curve')"];
    Command::new(python).args(import).output().is_ok_and(|output| output.status.success())
}

/// Makes it; Python and its module `venv` must be there.
pub fn make() -> Result<()> {
    let folder = folder();
    let mut make = Command::new("python3");
    make.args(["-m", "venv"]).arg(&folder);
    steps::succeed(make)?;
    let mut install = Command::new(folder.join("bin/pip"));
    install.args(["install", "--quiet", "--disable-pip-version-check", REQUIREMENT]);
    steps::succeed(install)?;
    if !is_there() {
        bail!("{REQUIREMENT} was installed in {} and cannot be used", folder.display());
    }
    Ok(())
}

/// Where the tests look for it: beside the folders of the build's profiles.
fn folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    target.unwrap_or_else(beside).join(NAME)
}
