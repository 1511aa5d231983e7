use files::escape;

use super::*;

#[test]
fn names_come_back_as_they_were() {
    for name in [
        &b"plain"[..],
        b"with \\ and \\n",
        b"\x1b[31m\r\n\t\0\x7f",
        b"\xff\xfe\\xff",
        "ümläut \u{202e}漢字\u{200b}".as_bytes(),
    ] {
        let shown = escape(name).to_string();
        assert_eq!(unescaped(&shown).as_deref(), Some(name), "{shown}");
    }
    for wrong in
        ["\\", "\\x4", "\\xzz", "\\u{", "\\u{}", "\\u}", "\\u{110000}", "\\q", "\\x\u{e9}1"]
    {
        assert_eq!(unescaped(wrong), None, "{wrong}");
    }
}
