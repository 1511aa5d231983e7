//! Bytes made safe to show. Whatever could move a cursor, reorder text or hide is written as an
//! escape; everything else stays as it is. Two different inputs never give the same output, so an
//! escaped name still tells which file is meant.

use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What [`escape`] returns; shows the escaped text.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(&'a [u8]);

/// Shows bytes for terminals, logs and JSON strings.
///
/// C0 controls and DEL become `\n`, `\r`, `\t` or `\xNN`; C1 controls, bidi marks, embeddings and
/// isolates, line and paragraph separators, zero-width and other invisible characters become
/// `\u{…}`; a backslash becomes `\\`; a byte that is not UTF-8 becomes `\xNN`. Quotes are left alone.
pub fn escape(bytes: &[u8]) -> Escaped<'_> {
    Escaped(bytes)
}

/// Shows a path of the operating system as [`escape`] does.
pub fn escape_path(path: &Path) -> Escaped<'_> {
    Escaped(path.as_os_str().as_bytes())
}

/// JSON text that means the same and is safe to show: in strings, which alone can hold it, what [`escape`] would not leave
/// as it is becomes `\uNNNN`. Line ends and tabs stay where they are; carriage returns, white space too, are left out.
pub fn escape_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '\r' => {}
            '\n' | '\t' => shown.push(character),
            _ if is_unsafe_to_show(character) => {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    shown.push_str(&format!("\\u{unit:04x}"));
                }
            }
            _ => shown.push(character),
        }
    }
    shown
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in self.0.utf8_chunks() {
            for character in piece.valid().chars() {
                match character {
                    '\\' => f.write_str("\\\\")?,
                    '\n' => f.write_str("\\n")?,
                    '\r' => f.write_str("\\r")?,
                    '\t' => f.write_str("\\t")?,
                    '\0'..='\x1f' | '\x7f' => write!(f, "\\x{:02x}", u32::from(character))?,
                    _ if is_unsafe_to_show(character) => {
                        write!(f, "\\u{{{:x}}}", u32::from(character))?;
                    }
                    _ => f.write_char(character)?,
                }
            }
            // Bytes below 0x80 are always valid, so these cannot be taken for an escaped control.
            for byte in piece.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

fn is_unsafe_to_show(character: char) -> bool {
    let code = u32::from(character);
    let is_noncharacter = code & 0xfffe == 0xfffe || (0xfdd0..=0xfdef).contains(&code);
    character.is_control() || is_noncharacter || is_invisible(character)
}

/// Whether a character shows nothing of its own: Unicode's Cf, Zl and Zp, the default-ignorable code
/// points, and the blank braille pattern. Case-folding filesystems ignore many of them in names.
pub(crate) fn is_invisible(character: char) -> bool {
    matches!(
        u32::from(character),
        0x00ad
            | 0x034f
            | 0x0600..=0x0605
            | 0x061c
            | 0x06dd
            | 0x070f
            | 0x0890..=0x0891
            | 0x08e2
            | 0x115f..=0x1160
            | 0x17b4..=0x17b5
            | 0x180b..=0x180f
            | 0x200b..=0x200f
            | 0x2028..=0x202e
            | 0x2060..=0x206f
            | 0x2800
            | 0x3164
            | 0xfe00..=0xfe0f
            | 0xfeff
            | 0xffa0
            | 0xfff0..=0xfffb
            | 0x110bd
            | 0x110cd
            | 0x13430..=0x1345f
            | 0x1bca0..=0x1bca3
            | 0x1d173..=0x1d17a
            | 0xe0000..=0xe0fff
    )
}
