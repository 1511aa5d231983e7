use std::collections::{HashMap, HashSet};

use super::*;
use crate::scratch::{Random, name, path};

/// Names that somebody has attacked a program with, or could.
fn hostile_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut add = |bytes: &[u8]| names.push(bytes.to_vec());
    for text in [
        "",
        ".",
        "..",
        "...",
        "....",
        "/",
        "//",
        "../",
        "./",
        "/..",
        "../..",
        "a/../b",
        "a/..",
        "../a",
        "/etc/passwd",
        "a//b",
        "a/",
        "/a",
        "a/./b",
        "./a",
        "a/.",
        ".. ",
        " ..",
        "..\t",
        "..\n",
        " ",
        "  ",
        "\t",
        "\n",
        "\r\n",
        "-",
        "--",
        "-rf",
        "--help",
        "-oProxyCommand=x",
        "~",
        "~root",
        "$HOME",
        "`id`",
        "$(id)",
        ";id",
        "|id",
        "&id",
        ">x",
        "<x",
        "*",
        "?",
        "[a]",
        "{a,b}",
        "'",
        "\"",
        "\\",
        "\\\\",
        "..\\..",
        "C:",
        "C:\\x",
        "c:/x",
        "\\\\host\\share",
        "CON",
        "NUL",
        "aux.txt",
        "COM1",
        "LPT\u{00b9}",
        "x:stream",
        "x.",
        "x ",
        "%2e%2e",
        "%2e%2e%2f",
        "%00",
        "%c0%ae",
        "..%2f",
        "..;",
        "a\u{2215}b",
        "a\u{2044}b",
        "a\u{29f8}b",
        "\u{ff0e}\u{ff0e}",
        "\u{2024}\u{2024}",
        "\u{2025}",
        "\u{202e}gpj.exe",
        "a\u{202d}b",
        "a\u{2066}b\u{2069}",
        "\u{200e}",
        "\u{200f}",
        "\u{061c}",
        "\u{200b}",
        "\u{200c}",
        "\u{200d}",
        "\u{2060}",
        "\u{feff}",
        "\u{00ad}",
        "\u{034f}",
        "\u{2028}",
        "\u{2029}",
        "\u{0085}",
        "\u{009b}31m",
        "\u{1b}[31m",
        "\u{1b}]0;x\u{7}",
        "\u{1b}]8;;http://x\u{1b}\\",
        "\u{7f}",
        "\u{8}\u{8}",
        "\u{3164}",
        "\u{115f}",
        "\u{ffa0}",
        "\u{2800}",
        "\u{e0041}",
        "\u{180e}",
        "\u{fffe}",
        "\u{ffff}",
        "\u{fdd0}",
        "\u{10ffff}",
        "e\u{301}",
        "\u{e9}",
        "\u{1f468}\u{200d}\u{1f469}",
        ".haul",
        ".HAUL",
        ".git",
        ".ssh",
        ".bashrc",
        "authorized_keys",
        "\\x2f",
        "\\u{2f}",
        "\\n",
        "x\\",
        "<script>alert(1)</script>",
        "{{7*7}}",
        "%s%n",
        "%n%n",
        "\u{0}",
        "a\0b",
        "..\0",
        "a\0/../b",
    ] {
        add(text.as_bytes());
    }
    for byte in 0..=255 {
        add(&[byte]);
        add(&[b'a', byte, b'b']);
    }
    for bytes in [
        &b"\xc0\xae\xc0\xae"[..],
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xff\xfe",
        b"\xe2\x80",
        b"\xe2\x80\xae",
        b"\xe2\x28\xa1",
        b"\xc2\x9b31m",
        b"\x9b31m",
        b"a\xcc",
        b"\xf8\x88\x80\x80\x80",
    ] {
        add(bytes);
    }
    for len in [254, 255, 256, 4095, 4096, 4097, 70_000] {
        add(&vec![b'x'; len]);
        add(&vec![0xff; len]);
        add(&b"../".repeat(len / 3));
        add(&b"a/".repeat(len / 2));
    }
    names
}

/// What a name may be, said in another way than the code does.
fn is_name(bytes: &[u8]) -> bool {
    (1..=255).contains(&bytes.len())
        && bytes.iter().all(|byte| !matches!(byte, 0 | b'/'))
        && !bytes.iter().all(|byte| *byte == b'.' && bytes.len() <= 2)
}

#[test]
fn hostile_names_are_refused_or_harmless() {
    let names = hostile_names();
    assert!(names.len() >= 300, "only {} names", names.len());
    for bytes in &names {
        let name = Name::new(bytes);
        assert_eq!(name.is_ok(), is_name(bytes), "{}", escape(bytes));
        if let Ok(name) = name {
            assert_eq!(name.as_bytes(), bytes);
            assert_eq!(path("a").join(&name).unwrap().parent(), Some(path("a")));
        }
        for parsed in [RelPath::parse(bytes), RelPath::parse_user(bytes)].into_iter().flatten() {
            assert!(parsed.names().all(|name| is_name(name.as_bytes())), "{}", escape(bytes));
            assert!(parsed.as_bytes().len() <= MAX_PATH && parsed.depth() <= MAX_DEPTH);
            assert_eq!(RelPath::parse(parsed.as_bytes()).as_ref(), Ok(&parsed));
        }
        let strictly = bytes.is_empty()
            || (bytes.len() <= MAX_PATH
                && bytes.split(|byte| *byte == b'/').all(is_name)
                && bytes.iter().filter(|byte| **byte == b'/').count() < MAX_DEPTH);
        assert_eq!(RelPath::parse(bytes).is_ok(), strictly, "{}", escape(bytes));
    }
}

#[test]
fn refusals_say_why() {
    let deep = |depth: usize| vec!["a"; depth].join("/").into_bytes();
    for (bytes, expected) in [
        (&b"/a"[..], NameError::Absolute),
        (b"a//b", NameError::Empty),
        (b"a/", NameError::Empty),
        (b"a/../b", NameError::Dots),
        (b"./a", NameError::Dots),
        (b"a\0", NameError::Nul),
        (&[b'a'; 256], NameError::NameTooLong),
        (&[b'a'; 4097], NameError::PathTooLong),
        (&deep(MAX_DEPTH + 1), NameError::TooDeep),
    ] {
        assert_eq!(RelPath::parse(bytes), Err(expected), "{}", escape(bytes));
    }
    assert_eq!(Name::new("a/b"), Err(NameError::Slash));
    let full = RelPath::parse(&deep(MAX_DEPTH)).unwrap();
    assert_eq!(full.join(&name("b")), Err(NameError::TooDeep));
    let long = RelPath::parse(&vec![vec![b'x'; 255]; 16].join(&b'/')).unwrap();
    assert_eq!(long.as_bytes().len(), 4095);
    assert_eq!(long.join(&name("b")), Err(NameError::PathTooLong));
}

#[test]
fn users_may_type_loosely() {
    for (typed, meant) in [
        ("", ""),
        (".", ""),
        ("./", ""),
        ("./.", ""),
        ("a/", "a"),
        ("a//b", "a/b"),
        ("./a/./b/.", "a/b"),
        ("a///", "a"),
        ("...", "..."),
        (".a", ".a"),
    ] {
        assert_eq!(RelPath::parse_user(typed.as_bytes()), Ok(path(meant)), "{typed}");
    }
    for typed in ["/", "//a", "..", "a/..", "a/../b", "./..", "a\0"] {
        assert!(RelPath::parse_user(typed.as_bytes()).is_err(), "{typed}");
    }
}

#[test]
fn paths_take_apart_and_join_again() {
    let whole = path("a/b/c");
    assert_eq!(whole.parent(), Some(path("a/b")));
    assert_eq!(whole.file_name(), Some(name("c")));
    assert_eq!(path("a").parent(), Some(RelPath::root()));
    assert_eq!((RelPath::root().parent(), RelPath::root().file_name()), (None, None));
    assert_eq!(path("a").join_path(&path("b/c")), Ok(whole.clone()));
    assert_eq!(RelPath::root().join_path(&whole), Ok(whole.clone()));
    assert_eq!(whole.join_path(&RelPath::root()), Ok(whole.clone()));
    assert_eq!(whole.names().collect::<Vec<_>>(), [name("a"), name("b"), name("c")]);
    for (head, expected) in
        [("", true), ("a", true), ("a/b/c", true), ("a/b/c/d", false), ("a/", true)]
    {
        let head = RelPath::parse_user(head.as_bytes()).unwrap();
        assert_eq!(whole.starts_with(&head), expected, "{head}");
    }
    assert!(!path("ab").starts_with(&path("a")));
    assert!(path("a/b") < path("a-b"), "the order is a walk's, not the bytes'");
    assert_eq!((RelPath::root().to_string(), path("a/b").to_string()), (".".into(), "a/b".into()));
}

#[test]
fn json_means_the_same_and_can_be_shown() {
    let json = "{\r\n\t\"a\\n\": \"\u{7f}\u{9b}2J\u{202e}ä😀\u{e0041}\"\n}";
    let shown = "{\n\t\"a\\n\": \"\\u007f\\u009b2J\\u202eä😀\\udb40\\udc41\"\n}";
    assert_eq!(escape_json(json), shown);
}

/// Reads an escaped text back, to prove that nothing was lost.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        let used = match escape.as_bytes()[0] {
            b'x' => {
                bytes.push(u8::from_str_radix(&escape[1..3], 16).unwrap());
                3
            }
            b'u' => {
                let end = escape.find('}').unwrap();
                let code = u32::from_str_radix(&escape[2..end], 16).unwrap();
                bytes.extend(char::from_u32(code).unwrap().to_string().as_bytes());
                end + 1
            }
            plain => {
                bytes.push(match plain {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    other => other,
                });
                1
            }
        };
        rest = &escape[used..];
    }
    bytes.extend(rest.as_bytes());
    bytes
}

#[test]
fn escaped_text_is_harmless_and_tells_names_apart() {
    let mut random = Random(17);
    let mut all: HashSet<Vec<u8>> = hostile_names().into_iter().collect();
    for _ in 0..5_000 {
        let len = random.below(12) as usize;
        // Pieces that meet in awkward ways: escapes, halves of characters, controls.
        let pieces: [&[u8]; 12] = [
            b"\\",
            b"x",
            b"u{202e}",
            b"\xe2\x80\xae",
            b"\xe2\x80",
            b"\xae",
            b"\n",
            b"n",
            b"80",
            b"\x80",
            b"\xc2\x80",
            b"a",
        ];
        all.insert((0..len).flat_map(|_| pieces[random.below(12) as usize].to_vec()).collect());
    }
    let mut seen = HashMap::new();
    for bytes in all {
        let shown = escape(&bytes).to_string();
        for character in shown.chars() {
            let code = u32::from(character);
            assert!(!character.is_control(), "{shown:?}");
            assert!(
                !matches!(code, 0x61c | 0xad | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff),
                "{shown:?}"
            );
        }
        assert_eq!(unescape(&shown), bytes, "{shown}");
        let earlier = seen.insert(shown, bytes);
        assert_eq!(earlier, None);
    }
}

#[test]
fn escapes_look_as_documented() {
    for (bytes, shown) in [
        (&b"plain name.txt"[..], "plain name.txt"),
        ("grün \u{1f980} 日本".as_bytes(), "grün \u{1f980} 日本"),
        (b"a\\b", "a\\\\b"),
        (b"a\nb\r\t", "a\\nb\\r\\t"),
        (b"\x1b[31m\x7f\0", "\\x1b[31m\\x7f\\x00"),
        ("\u{9b}31m".as_bytes(), "\\u{9b}31m"),
        (b"\x9b31m", "\\x9b31m"),
        ("\u{202e}x\u{2029}".as_bytes(), "\\u{202e}x\\u{2029}"),
    ] {
        assert_eq!(escape(bytes).to_string(), shown);
        assert_eq!(escape_path(std::path::Path::new(OsStr::from_bytes(bytes))).to_string(), shown);
    }
}

#[test]
fn the_first_name_is_compared_whole() {
    for (text, first, expected) in [
        ("a", "a", true),
        ("a/b", "a", true),
        ("ab/c", "a", false),
        ("b/a", "a", false),
        ("", "a", false),
    ] {
        assert_eq!(path(text).begins_with(&name(first)), expected, "{text}");
    }
}
