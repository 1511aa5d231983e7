//! Every target has a corpus, and the corpus passes; a process that fails or hangs leaves its input.

use super::*;

#[test]
fn every_target_passes_its_corpus() {
    for (name, target) in crate::TARGETS {
        let inputs = corpus(name).expect("the corpus can be read");
        assert!(
            !inputs.is_empty(),
            "the target {name} needs at least one input in {}",
            corpus_folder(name).display()
        );
        for (path, bytes) in inputs {
            println!("{name}: {}", path.display());
            target(&bytes);
        }
    }
}

#[test]
fn names_are_unique_and_fit_a_folder() {
    let mut names: Vec<&str> = crate::TARGETS.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    assert!(
        names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')),
        "{names:?}"
    );
}

/// What supervising a shell script comes to, and whether its input was kept.
fn supervised(test: &str, script: &str, time: Duration) -> (Result<u64>, Option<Vec<u8>>) {
    let folder = std::env::temp_dir().join(format!("haul-fuzz-{test}-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for the test");
    let (running, kept) = (folder.join("running"), folder.join("kept"));
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(&running);
    let result = supervise(command, time, &running, &kept);
    let input = fs::read(&kept).ok();
    assert!(!running.exists(), "the running file must not stay");
    fs::remove_dir_all(&folder).expect("the folder goes");
    (result, input)
}

#[test]
fn a_good_end_leaves_nothing_and_counts() {
    let (result, input) = supervised("good", "printf abc > $1; echo 17", Duration::from_secs(60));
    assert_eq!(result.expect("the script ends well"), 17);
    assert_eq!(input, None);
}

#[test]
fn a_failure_keeps_the_input() {
    let (result, input) =
        supervised("bad", "printf abc > $1; echo 17; exit 101", Duration::from_secs(60));
    assert!(result.expect_err("the script fails").to_string().contains("101"));
    assert_eq!(input.as_deref(), Some(&b"abc"[..]));
}

#[test]
fn an_endless_target_is_ended_and_keeps_the_input() {
    let script = "printf abc > $1.new; mv $1.new $1; while :; do :; done";
    let (result, input) = supervised("endless", script, Duration::from_secs(1));
    assert!(result.expect_err("the script never ends").to_string().contains("end"));
    assert_eq!(input.as_deref(), Some(&b"abc"[..]));
}
