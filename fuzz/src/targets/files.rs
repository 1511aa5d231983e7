//! Targets for the readers of `files`.

use files::{MAX_DEPTH, MAX_PATH, Name, RelPath, escape};

/// Paths from a peer or from disk. Whatever is taken must be made of names that cannot climb, come back
/// from its parts unchanged, and be harmless in a terminal once it is escaped.
pub fn path(data: &[u8]) {
    let typed = RelPath::parse_user(data);
    let Ok(path) = RelPath::parse(data) else { return };
    assert_eq!(path.as_bytes(), data, "a strict path is taken as it is or not at all");
    assert!(data.len() <= MAX_PATH && path.depth() <= MAX_DEPTH);
    assert_eq!(typed.as_ref(), Ok(&path), "what is strict is also what a person may type");
    let mut rebuilt = RelPath::root();
    for name in path.names() {
        assert_eq!(
            Name::new(name.as_bytes()).as_ref(),
            Ok(&name),
            "a component is a name by itself"
        );
        rebuilt = rebuilt.join(&name).expect("the parts of a path fit where the path fits");
    }
    assert_eq!(rebuilt, path);
    assert!(
        !escape(data).to_string().contains(char::is_control),
        "an escaped path moves no cursor"
    );
}

/// The map of a partial file, as it is found on disk after a crash or another program.
pub fn staging_map(data: &[u8]) {
    let Ok(map) = files::parse_map(data) else { return };
    let chunks = files::chunk_count(map.header.size);
    for (chunk, _) in &map.records {
        assert!(*chunk < chunks, "a record names a chunk that the file has");
    }
    assert_eq!(RelPath::parse(map.header.path.as_bytes()).as_ref(), Ok(&map.header.path));
}
