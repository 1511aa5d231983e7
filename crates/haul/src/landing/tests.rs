use super::*;
use crate::spool::Scratch;
use crate::state::{own_name, path_of};

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

/// `folder/inner`, `file`, and links to them, to what is missing, and out.
fn tree() -> Scratch {
    let scratch = Scratch::in_temporary("haul-landing-test-").unwrap();
    let dir = scratch.dir();
    dir.make_dir_all(&path("folder/inner"), 0o755).unwrap();
    dir.write_private(&own_name("file"), b"x").unwrap();
    for (name, target) in [
        ("to-folder", "folder/./"),
        ("to-file", "folder/../file"),
        ("to-missing", "folder/new"),
        ("out", "../elsewhere"),
        ("absolute", "/etc"),
        ("loop", "loop"),
    ] {
        dir.make_symlink(target.as_bytes(), &own_name(name)).unwrap();
    }
    scratch
}

#[test]
fn targets_mean_what_cp_makes_of_them() {
    let tree = tree();
    let name = Wish::default();
    let folder = Wish { into_folder: true, ..name };
    let contents = Wish { contents: true, ..name };
    let check = |target: &str, wish: Wish, expected: Result<(&str, bool, &str), RefuseCode>| {
        let found = place(tree.dir(), &path(target), wish, target).map_err(|refused| refused.code);
        let expected = expected.map(|(folder, make, rename)| Place {
            folder: path(folder),
            make,
            rename_top: (!rename.is_empty()).then(|| own_name(rename)),
        });
        assert_eq!(found, expected, "{target} {wish:?}");
    };
    use RefuseCode::{Denied, NotAFolder, NotFound};
    for wish in [name, folder, contents] {
        check("", wish, Ok(("", false, "")));
        check("folder", wish, Ok(("folder", false, "")));
        check("folder/inner", wish, Ok(("folder/inner", false, "")));
        check("to-folder", wish, Ok(("folder", false, "")));
        check("to-folder/inner", wish, Ok(("folder/inner", false, "")));
        check("out", wish, Err(Denied));
        check("out/x", wish, Err(Denied));
        check("absolute", wish, Err(Denied));
        check("loop", wish, Err(Denied));
    }
    check("file", name, Ok(("", false, "file")));
    check("to-file", name, Ok(("", false, "file")));
    check("file", folder, Err(NotAFolder));
    check("file", contents, Err(NotAFolder));
    check("new", name, Ok(("", false, "new")));
    check("new", folder, Err(NotFound));
    check("new", contents, Ok(("new", true, "")));
    check("folder/new", name, Ok(("folder", false, "new")));
    check("to-missing", name, Ok(("folder", false, "new")));
    check("missing/new", name, Err(NotFound));
    check("missing/new", contents, Err(NotFound));
    check("file/new", name, Err(NotAFolder));
}

/// What an earlier try of the same job has begun is not copied into.
#[test]
fn a_name_stays_a_name() {
    use RefuseCode::{Denied, NotAFolder, NotFound};
    let tree = tree();
    let check = |target: &str, expected: Result<(&str, &str), RefuseCode>| {
        let found = named(tree.dir(), &path(target), target).map_err(|refused| refused.code);
        let expected = expected.map(|(folder, name)| Place {
            folder: path(folder),
            make: false,
            rename_top: Some(own_name(name)),
        });
        assert_eq!(found, expected, "{target}");
    };
    check("folder", Ok(("", "folder")));
    check("folder/inner", Ok(("folder", "inner")));
    check("to-folder", Ok(("", "folder")));
    check("file", Ok(("", "file")));
    check("new", Ok(("", "new")));
    check("to-missing", Ok(("folder", "new")));
    check("", Err(NotAFolder));
    check("missing/new", Err(NotFound));
    check("file/new", Err(NotAFolder));
    check("out", Err(Denied));
    check("loop", Err(Denied));
}

#[test]
fn paths_of_this_machine_are_opened_through_links() {
    let tree = tree();
    let check = |below: &str, expected: Option<&str>| {
        let found = ambient(&tree.path().join(below)).unwrap();
        match (found, expected) {
            (Ambient::Folder(..), None) => {}
            (Ambient::Entry(_, found), Some(name)) => assert_eq!(found, own_name(name)),
            (found, _) => panic!("{below}: {found:?}"),
        }
    };
    check(".", None);
    check("folder", None);
    check("folder/", None);
    check("to-folder", None);
    check("to-file", Some("file"));
    check("to-missing", Some("new"));
    check("absolute", None);
    check("loop", Some("loop"));
    let Ambient::Entry(dir, name) = ambient(&tree.path().join("to-missing")).unwrap() else {
        panic!("a link to what is missing names an entry")
    };
    dir.make_dir(&name, 0o755).unwrap();
    assert!(tree.dir().attributes_of(&path("folder/new")).is_ok());
    assert!(tree.dir().attributes_of(&path_of("new")).is_err());
}
