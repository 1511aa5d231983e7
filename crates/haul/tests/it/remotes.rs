//! Names for other machines: what a remote says holds for every command that takes an address.

use std::fs;

use testkit::tree::write;

use crate::pair::Pair;

fn configure(pair: &Pair, text: &str) {
    fs::create_dir_all(pair.near.home()).unwrap();
    write(&pair.near.home().join("remotes.toml"), text.as_bytes());
}

#[test]
fn a_remote_is_a_machine_and_a_folder() {
    let pair = Pair::new("remotes");
    fs::create_dir_all(pair.served("inner")).unwrap();
    let address = pair.daemon.address();
    configure(
        &pair,
        &format!("[remote.nas]\nhost = \"{address}\"\npath = \"data/inner\"\nlink = \"tcp\"\n"),
    );
    write(&pair.local("file"), b"content");
    let file = pair.local("file");
    let ended = pair.copy(&["-v".as_ref(), file.as_os_str(), "nas:".as_ref()]).expect_code(0);
    ended.expect_says(&["over TCP"]);
    let ended =
        pair.copy(&["-v".as_ref(), "--link=quic".as_ref(), file.as_os_str(), "nas:two".as_ref()]);
    ended.expect_code(0).expect_says(&["over QUIC"]);
    assert_eq!(fs::read(pair.served("inner/two")).unwrap(), b"content");
    let back = pair.local("back");
    pair.copy(&["nas:/data/inner/file".as_ref(), back.as_os_str()]).expect_code(2);
    pair.copy(&["nas:file".as_ref(), back.as_os_str()]).expect_code(0);
    for place in ["nas", "nas:"] {
        let listed = pair.near.run(["ls", place]).expect_code(0).text();
        assert_eq!(listed, "file\ntwo\n");
    }
}

#[test]
fn a_mistake_in_the_file_is_told_with_its_place() {
    let pair = Pair::new("remotes-wrong");
    configure(&pair, "[remote.nas]\nhost = \"localhost\"\nfolder = \"data\"\n");
    for words in [vec!["cp", "nas:a", "b"], vec!["ls", "nas:"], vec!["doctor", "nas"]] {
        let ended = pair.near.run(words).expect_code(2);
        ended.expect_says(&["remotes.toml", "line 3", "folder"]);
    }
}
