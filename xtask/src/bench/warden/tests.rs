use std::os::unix::process::ExitStatusExt;

use super::*;

/// Tells a warden of a process by `off` ticks from its start time, and perhaps that it is gone;
/// whether the process outlives the end of the pipe.
fn outlives(off: u64, gone: bool) -> bool {
    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    let id = child.id();
    let started = processes::start_time(id).unwrap() + off;
    let mut told = format!("process {id} {started}\n");
    if gone {
        told += &format!("gone {id}\n");
    }
    watch(told.as_bytes());
    // The second signal is the one that ends it unless the warden's came first; SIGKILL is 9.
    processes::signal(id, "-TERM");
    let status = child.wait().unwrap();
    status.signal() != Some(9)
}

#[test]
fn the_end_of_the_pipe_ends_what_is_left_and_nothing_else() {
    assert!(!outlives(0, false));
    assert!(outlives(0, true), "it was said to be gone");
    assert!(outlives(1, false), "another process has its id now");
}

#[test]
fn folders_are_removed_and_shared_ones_only_when_empty() {
    let base = std::env::temp_dir().join(format!("haul-warden-test-{}", std::process::id()));
    let (own, empty, used) = (base.join("own"), base.join("empty"), base.join("used"));
    for folder in [&own, &empty, &used] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(own.join("file"), "x").unwrap();
    fs::write(used.join("file"), "x").unwrap();
    let told = format!(
        "folder {}\nshared-folder {}\nshared-folder {}\n",
        own.display(),
        empty.display(),
        used.display()
    );
    watch(told.as_bytes());
    let left = [&own, &empty, &used].map(|folder| folder.exists());
    fs::remove_dir_all(&base).unwrap();
    assert_eq!(left, [false, false, true]);
}
