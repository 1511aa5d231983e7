use link::Permissions;

use files::Follow;

use super::*;
use crate::spool::Scratch;
use crate::state::own_name;

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

/// Exports `one` (and `two`) of a folder that also has what is not exported.
fn exports(names: &[&str]) -> (Scratch, Exports) {
    let scratch = Scratch::in_temporary("haul-exports-test-").unwrap();
    let dir = scratch.dir();
    for folder in ["one/sub/deep", "one/.haul", "two", "secret"] {
        dir.make_dir_all(&path(folder), 0o755).unwrap();
    }
    dir.open_dir(&path("one"), Follow::Never)
        .unwrap()
        .make_symlink(b"sub", &own_name("to-sub"))
        .unwrap();
    dir.open_dir(&path("one"), Follow::Never)
        .unwrap()
        .make_symlink(b"../secret", &own_name("out"))
        .unwrap();
    let open =
        |name: &&str| Export::open(own_name(name), &scratch.path().join(name), Mode::Rw).unwrap();
    let list = names.iter().map(open).collect();
    let identity = Arc::new(Identity::generate().unwrap());
    (scratch, Exports::new(list, identity))
}

fn allowed(paths: &[&str]) -> Permissions {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    Permissions { paths, ..Permissions::unrestricted() }
}

#[test]
fn far_paths_are_found_in_their_export() {
    let (scratch, both) = exports(&["one", "two"]);
    let (_other, single) = exports(&["one"]);
    let check = |exports: &Exports, typed: &[u8], expected: Result<(&str, bool), RefuseCode>| {
        let found = exports.find(typed, &allowed(&[]));
        let found = found.map(|found| (String::from_utf8(found.full()).unwrap(), found.contents));
        let found = found.map_err(|refused| refused.code);
        let expected = expected.map(|(full, contents)| (full.to_owned(), contents));
        assert_eq!(found, expected, "{}", files::escape(typed));
    };
    use RefuseCode::{Denied, NotFound};
    check(&both, b"one", Ok(("one", false)));
    check(&both, b"./one//sub/", Ok(("one/sub", false)));
    check(&both, b"one/.", Ok(("one", true)));
    check(&both, b"two/new", Ok(("two/new", false)));
    check(&both, b"one/to-sub/deep", Ok(("one/sub/deep", false)));
    check(&both, b"", Err(NotFound));
    check(&both, b".", Err(NotFound));
    check(&both, b"three/x", Err(NotFound));
    check(&both, b"one/../two", Err(NotFound));
    check(&both, b"one/out/x", Err(Denied));
    check(&both, b"one/.haul/x", Err(Denied));
    check(&both, b"one/.HAUL", Err(Denied));
    check(&both, b"/etc", Err(NotFound));

    check(&single, b"", Ok(("one", false)));
    check(&single, b".", Ok(("one", true)));
    check(&single, b"sub", Ok(("one/sub", false)));
    check(&single, b"one/sub", Ok(("one/sub", false)));
    check(&single, b"two", Ok(("one/two", false)));

    let absolute = |below: &str| files_path(&scratch.path().join(below));
    check(&both, &absolute("one/sub"), Ok(("one/sub", false)));
    check(&both, &absolute("one"), Ok(("one", false)));
    check(&both, &absolute("secret"), Err(NotFound));
    check(&both, &absolute("one-more"), Err(NotFound));
}

fn files_path(path: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes().to_vec()
}

#[test]
fn a_key_sees_only_what_its_line_names() {
    let (_scratch, both) = exports(&["one", "two"]);
    let narrow = allowed(&["one/sub"]);
    let check = |typed: &[u8], expected: Result<Option<&str>, RefuseCode>| {
        let found = both.source(typed, &narrow).map(|source| source.name);
        let expected = expected.map(|name| name.map(own_name));
        assert_eq!(found.map_err(|refused| refused.code), expected, "{}", files::escape(typed));
    };
    use RefuseCode::{Denied, NotFound};
    check(b"one/sub", Ok(Some("sub")));
    check(b"one/sub/deep/.", Ok(None));
    check(b"one/to-sub", Ok(Some("to-sub")));
    check(b"one", Err(Denied));
    check(b"two", Err(Denied));
    check(b"one/sub/none", Err(NotFound));

    let refused = both.find(b"three", &narrow).err().unwrap();
    assert!(refused.text.contains("exports here: one") && !refused.text.contains("two"));
    let found = both.find(b"one", &narrow).unwrap();
    let names: Vec<String> =
        list_at(&found, &narrow).unwrap().iter().map(|line| line.name.to_string()).collect();
    assert_eq!(names, ["sub"], "only the way to what is allowed is shown");
    let names: Vec<String> =
        list_at(&found, &allowed(&[])).unwrap().iter().map(|line| line.name.to_string()).collect();
    assert_eq!(names, ["out", "sub", "to-sub"], "the staging folder is hidden");
}

#[test]
fn extras_are_removed_only_for_a_key_that_may_use_the_whole_folder() {
    let (_scratch, both) = exports(&["one", "two"]);
    let narrow = allowed(&["one/sub"]);
    let order = |target: &[u8], deletion| Order {
        target: target.to_vec(),
        into_folder: true,
        deletion,
        ..Order::default()
    };
    let land = |allowed: &Permissions, target: &[u8], deletion| {
        both.land(allowed, &order(target, deletion)).map(drop).map_err(|refused| refused.code)
    };
    use RefuseCode::Denied;
    for deletion in [Deletion::Guarded, Deletion::All] {
        assert_eq!(land(&narrow, b"one", deletion), Err(Denied));
        assert_eq!(land(&narrow, b"one/sub", deletion), Ok(()));
        assert_eq!(land(&narrow, b"one/sub/deep", deletion), Ok(()));
        assert_eq!(land(&allowed(&[]), b"one", deletion), Ok(()));
    }
    assert_eq!(land(&narrow, b"one", Deletion::No), Ok(()));
    let refused = both.land(&narrow, &order(b"one", Deletion::All)).err().unwrap();
    assert!(refused.text.contains("may not remove what is extra in one"), "{}", refused.text);
}

#[test]
fn export_options_are_read() {
    let check = |word: &str, expected: Option<(&str, &str, Mode)>| {
        let found = ExportSpec::parse(word.as_ref()).ok();
        let expected = expected.map(|(name, path, mode)| ExportSpec {
            name: own_name(name),
            path: path.into(),
            mode,
            grants: Grants::default(),
        });
        assert_eq!(found, expected, "{word}");
    };
    check("/srv/data", Some(("data", "/srv/data", Mode::Rw)));
    check("/srv/data/", Some(("data", "/srv/data/", Mode::Rw)));
    check("/srv/data:ro", Some(("data", "/srv/data", Mode::Ro)));
    check("/srv/data:ro=docs", Some(("docs", "/srv/data", Mode::Ro)));
    check("/srv/data=docs", Some(("docs", "/srv/data", Mode::Rw)));
    check("/a=b/c", Some(("c", "/a=b/c", Mode::Rw)));
    check("/:ro=all", Some(("all", "/", Mode::Ro)));
    check(".=here", Some(("here", ".", Mode::Rw)));
    for wrong in ["", ":ro", "/", "..", "/srv=", "=x", "/srv=.."] {
        check(wrong, None);
    }
}

#[test]
fn patterns_stand_for_what_a_key_may_use() {
    let (scratch, both) = exports(&["one", "two"]);
    let (other, single) = exports(&["one"]);
    for (dir, file) in
        [("one/sub", "x.gz"), ("one/sub/deep", "x.gz"), ("two", "y.gz"), ("one", "a*")]
    {
        for scratch in [&scratch, &other] {
            let folder = scratch.dir().open_dir(&path(dir), Follow::Never).unwrap();
            folder.write_private(&own_name(file), b"x").unwrap();
        }
    }
    let check = |exports: &Exports, typed: &[&str], allowed: &Permissions, expected: &str| {
        let paths: Vec<Vec<u8>> = typed.iter().map(|path| path.as_bytes().to_vec()).collect();
        let told = match exports.all_sources(&paths, allowed) {
            Ok(sources) => {
                let name = |source: &SourceRoot| {
                    source.name.as_ref().map_or(".".to_owned(), ToString::to_string)
                };
                sources.iter().map(name).collect::<Vec<_>>().join(" ")
            }
            Err(refused) => refused.text,
        };
        assert!(
            told == expected || (expected.len() > 12 && told.contains(expected)),
            "{typed:?}: {told}"
        );
    };
    let all = allowed(&[]);
    check(&both, &["one/s*"], &all, "sub");
    check(&both, &["*/*.gz"], &all, "y.gz");
    check(&both, &["*"], &all, "one two");
    check(&both, &["t*/"], &all, "two");
    check(&both, &["t*/."], &all, ".");
    check(&both, &["*/."], &all, "must be the only one");
    check(&both, &["*/sub"], &all, "sub");
    check(
        &both,
        &["one/sub/*.gz", "one/sub/deep/x*"],
        &all,
        "two of the paths that match are called x.gz",
    );
    check(&both, &["one/*", "two/y.gz"], &all, "a* out sub to-sub y.gz");
    check(&both, &["one/a*"], &all, "a*");
    check(&both, &["one/a\\*"], &all, "a*");
    check(&both, &["one/sub/*.none"], &all, "no file matches one/sub/*.none");
    check(&both, &["one/\\none"], &all, "it does not exist");
    check(&both, &["one/../t*"], &all, "the path cannot be used");
    check(&both, &["one/.h*"], &all, "no file matches");
    check(&both, &["one/out/*"], &all, "no file matches");
    check(&both, &["/etc/p*"], &all, "lies in no export");
    let absolute = scratch.path().join("two/*.gz");
    check(&both, &[absolute.to_str().unwrap()], &all, "y.gz");
    check(&single, &["s*/*.gz"], &all, "x.gz");
    check(&single, &["one/s*/*.gz"], &all, "x.gz");

    let narrow = allowed(&["one/sub"]);
    check(&both, &["*/*"], &narrow, "sub");
    check(&both, &["*"], &narrow, "no file matches *");
    check(&both, &["one/sub/*.gz"], &narrow, "x.gz");
    check(&both, &["two/*"], &narrow, "no file matches two/*");
    check(&both, &["one/a*"], &narrow, "no file matches one/a*");
}
