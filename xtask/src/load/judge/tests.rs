use super::*;

/// An upload that began at 0.
fn seen(kind: Kind, waiting: Option<f64>, admitted: f64, published: f64) -> Seen {
    Seen {
        kind,
        name: "a".to_owned(),
        source: "/a".into(),
        began: 0.0,
        waiting,
        admitted: Some(admitted),
        published: Some(published),
        dataset: Some("x".to_owned()),
        failure: None,
    }
}

fn check(seen: &[Seen], peak: u64, beside: bool, expected: &[&str]) {
    let problems = problems(seen, peak, beside);
    assert_eq!(problems.len(), expected.len(), "{problems:?}");
    for (problem, part) in problems.iter().zip(expected) {
        assert!(problem.contains(part), "{problem}");
    }
}

#[test]
fn small_uploads_that_pass_large_ones_are_as_it_should_be() {
    let large = [seen(Kind::Large, None, 0.1, 50.0), seen(Kind::Large, Some(0.0), 50.0, 100.0)];
    let quick = [seen(Kind::Small, Some(1.0), 2.0, 3.0), seen(Kind::Small, None, 2.0, 3.0)];
    check(&[large.as_slice(), &quick].concat(), MEMORY - 1, true, &[]);
    check(&large, 0, true, &["no small or no large", "waited NaN s"]);
    let late = [seen(Kind::Small, Some(1.0), 2.0, 100.5)];
    check(&[large.as_slice(), &late].concat(), 0, true, &["published after 100.5 s"]);
    let long = [seen(Kind::Small, Some(1.0), 30.0, 31.0)];
    let all = [large.as_slice(), &long].concat();
    check(&all, 0, true, &["small uploads waited 29.00 s and more"]);
    check(&all, 0, false, &[]);
}

#[test]
fn what_failed_and_much_memory_are_said() {
    let mut failed = seen(Kind::Mixed, None, 1.0, 2.0);
    failed.failure = Some("exit status: 5".to_owned());
    check(&[failed.clone()], MEMORY, false, &["a was not published: exit", "256 MiB of memory"]);
    let all = vec![failed; TOLD + 2];
    let problems = problems(&all, 0, false);
    assert_eq!(
        (problems.len(), problems[TOLD].as_str()),
        (TOLD + 1, "and 2 more were not published")
    );
}

#[test]
fn tables_have_a_line_for_each_kind_that_is_there() {
    let all = [seen(Kind::Small, Some(1.0), 2.0, 3.0), seen(Kind::Small, Some(1.0), 4.0, 9.0)];
    let text = tables(&all);
    let line = text.lines().last().unwrap();
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    assert_eq!(cells[1..9], ["small", "2", "2.00", "3.00", "3.00", "6.00", "9.00", "9.00"]);
    assert_eq!(text.lines().count(), 3);
}

#[test]
fn the_manifest_of_a_source_is_that_of_sha256sum() {
    let folder = std::env::temp_dir().join(format!("haul-load-{}", std::process::id()));
    fs::create_dir_all(folder.join("run")).unwrap();
    fs::write(folder.join("run/b"), "abc").unwrap();
    fs::write(folder.join("run/a"), "").unwrap();
    let mut digests = Digests::default();
    let run = digests.manifest("run", &folder.join("run")).unwrap();
    let one = digests.manifest("c", &folder.join("run/b")).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    let (empty, abc) = (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    );
    assert_eq!(run, [format!("{empty}  files/run/a"), format!("{abc}  files/run/b")]);
    assert_eq!(one, [format!("{abc}  files/c")]);
}
