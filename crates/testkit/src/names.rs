//! File names that are meant to do harm, all of which a Linux file system takes: they move cursors, turn
//! text around, hide, pretend to be options, paths or other names, or are no text at all.

use crate::tree::Random;

/// Characters that a terminal obeys or that nobody sees.
const TROUBLE: &[char] = &[
    '\u{61c}',
    '\u{200b}',
    '\u{200c}',
    '\u{200d}',
    '\u{200e}',
    '\u{200f}',
    '\u{2028}',
    '\u{2029}',
    '\u{202a}',
    '\u{202b}',
    '\u{202c}',
    '\u{202d}',
    '\u{202e}',
    '\u{2060}',
    '\u{2066}',
    '\u{2067}',
    '\u{2068}',
    '\u{2069}',
    '\u{feff}',
    '\u{fff9}',
    '\u{ad}',
    '\u{e0001}',
    '\u{180e}',
];

/// Names with a meaning somewhere.
const WORDS: &[&str] = &[
    "...",
    "....",
    ".. ",
    " ..",
    ". ",
    " .",
    "..\\",
    "\\..\\..",
    "%2e%2e",
    "%2f",
    "..%2fetc",
    "~",
    "~root",
    "$HOME",
    "$(id)",
    "`id`",
    ";id",
    "|id",
    "&",
    "*",
    "?",
    "[a-z]",
    "{a,b}",
    "!",
    "#",
    "-",
    "--",
    "-r",
    "-rf",
    "--json",
    "--delete",
    "--help",
    "-v",
    "@file",
    "a:b",
    ":",
    "::1",
    "host:",
    "C:",
    "CON",
    "NUL",
    "aux.txt",
    "com1",
    "desktop.ini",
    ".DS_Store",
    "Thumbs.db",
    " ",
    "  ",
    "\t",
    "a ",
    " a",
    "a.",
    "'",
    "\"",
    "'\"",
    "\\",
    "\\n",
    "\\x1b[2J",
    "<script>",
    "a\nb",
    "\n",
    "a\r\nb",
    "\r",
    "name\rother",
    "\u{1b}[2J",
    "\u{1b}]0;title\u{7}",
    "\u{1b}P1$r\u{1b}\\",
    "\u{9b}2J",
    "\u{8}\u{8}\u{8}",
    "\u{7f}",
    "ab\u{202e}txt.exe",
    "\u{2066}a\u{2069}",
    "e\u{301}",
    "\u{e9}",
    "\u{212b}",
    "\u{c5}",
    "I\u{307}",
    "\u{fdfa}",
    "\u{1f469}\u{200d}\u{1f680}",
    "\u{ffff}",
    "\u{10ffff}",
    "null",
    "undefined",
    "true",
    "0",
    "1e999",
    "NaN",
    "haul",
    ".haulx",
    "haul-tmp-1",
    ".git",
    ".ssh",
    "id_ed25519",
    "authorized_keys",
    "Makefile",
    "a=b",
    "a,b",
    "\u{feff}a",
    "README.~1~",
];

/// At least 300 names, each a single component of a path, none twice.
pub fn hostile_names(seed: u64) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = WORDS.iter().map(|word| word.as_bytes().to_vec()).collect();
    for byte in (1..=0x1f).chain(0x7f..=0x7f) {
        names.push(vec![b'c', byte, b'c']);
    }
    for number in 0x80..=0x9f {
        names.push(format!("c1{}", char::from(number)).into_bytes());
    }
    for character in TROUBLE {
        names.push(format!("a{character}b").into_bytes());
    }
    for byte in [0x80, 0xbf, 0xc0, 0xc1, 0xf5, 0xfe, 0xff] {
        names.push(vec![byte]);
        names.push(vec![b'x', byte, b'x']);
    }
    // Surrogates, overlong forms, a character that is cut short.
    names.extend(
        [&b"\xed\xa0\x80"[..], b"\xc0\xaf..", b"\xe2\x80", b"\xf4\x90\x80\x80"].map(Vec::from),
    );
    for length in [128, 200, 254, 255] {
        names.push(vec![b'l'; length]);
        names.push(vec![0xff; length]);
        names.push("\u{202e}".repeat(length / 3).into_bytes());
    }
    let mut random = Random::new(seed);
    while names.len() < 320 {
        let length = 1 + random.below(40) as usize;
        let mut name = random.bytes(length);
        name.retain(|byte| !matches!(byte, 0 | b'/'));
        // What the words above do not say is drawn; a dot alone would be no name.
        name.insert(0, b'r');
        names.push(name);
    }
    names.sort();
    names.dedup();
    names
}

/// The first thing in an output that a terminal would obey or that would hide, with what is around it.
pub fn unescaped(output: &[u8]) -> Option<String> {
    for piece in output.utf8_chunks() {
        let text = piece.valid();
        for (at, character) in text.char_indices() {
            let harmless = character == '\n' || !character.is_control();
            if !harmless || TROUBLE.contains(&character) {
                let start = text.floor_char_boundary(at.saturating_sub(60));
                return Some(format!("{character:?} behind {:?}", &text[start..at]));
            }
        }
        if !piece.invalid().is_empty() {
            return Some(format!("bytes that are no text: {:x?}", piece.invalid()));
        }
    }
    None
}
