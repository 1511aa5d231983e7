//! What a signature covers: every byte of the statement, and not how it is laid out.

use files::Digest;

use super::*;

fn statement(signer: &Identity) -> Statement {
    let source = Identity::generate().unwrap();
    let totals = Totals { copied: 3, unchanged: 1, bytes_copied: u64::MAX, ..Totals::default() };
    Statement {
        transfer: "07".repeat(16),
        source: source.public_key(),
        target: signer.public_key(),
        path: "export/a \"b\" \u{e4}\\n".to_owned(),
        began: 1_700_000_000,
        ended: 1_700_000_001,
        durable: true,
        roots: vec!["one".to_owned(), "two".to_owned()],
        root_count: 2,
        tree: TreeDigests {
            content: Digest::of(b"content"),
            attributes: Digest::of(b"attributes"),
            records: 4,
        },
        totals,
        removed: 5,
        dataset: None,
    }
}

#[test]
fn what_is_signed_is_what_is_read() {
    let signer = Identity::generate().unwrap();
    let statement = statement(&signer);
    let receipt = Receipt::verify(&statement.sign(&signer)).unwrap();
    assert_eq!(receipt.statement, statement);
}

#[test]
fn the_layout_is_not_signed() {
    let signer = Identity::generate().unwrap();
    let statement = statement(&signer);
    let json: Value = serde_json::from_slice(&statement.sign(&signer)).unwrap();
    let compact = serde_json::to_vec(&json).unwrap();
    assert_eq!(Receipt::verify(&compact).unwrap().statement, statement);
    let Value::Object(fields) = &json else { panic!("a receipt is an object") };
    // The same fields in another order, with other blanks.
    let turned: Vec<_> =
        fields.iter().rev().map(|(key, value)| format!("\t\"{key}\" :\r\n {value} ")).collect();
    let turned = format!(" {{{}}}\n", turned.join(","));
    assert_eq!(Receipt::verify(turned.as_bytes()).unwrap().statement, statement);
}

/// A changed byte either breaks the receipt or changes nothing of what it says.
#[test]
fn no_byte_of_the_statement_can_be_changed() {
    let signer = Identity::generate().unwrap();
    let statement = statement(&signer);
    let signed = statement.sign(&signer);
    let mut refused = 0;
    for at in 0..signed.len() {
        for flip in [0x01, 0x02, 0x10, 0x20, 0x80] {
            let mut changed = signed.clone();
            changed[at] ^= flip;
            match Receipt::verify(&changed) {
                Ok(receipt) => assert_eq!(receipt.statement, statement, "byte {at} ^ {flip:#x}"),
                Err(_) => refused += 1,
            }
        }
    }
    // What may change are blanks of the layout and the case of hex digits of the signature.
    assert!(refused > 4 * signed.len(), "only {refused} changes were noticed");
}

#[test]
fn every_field_of_the_statement_is_needed() {
    let signer = Identity::generate().unwrap();
    let json: Value = serde_json::from_slice(&statement(&signer).sign(&signer)).unwrap();
    let fields: Vec<_> = json["statement"].as_object().unwrap().keys().cloned().collect();
    for field in fields {
        let mut without = json.clone();
        without["statement"].as_object_mut().unwrap().remove(&field);
        assert!(Receipt::verify(without.to_string().as_bytes()).is_err(), "without {field}");
        let mut more = json.clone();
        more["statement"][format!("{field}x")] = 1.into();
        assert_eq!(
            Receipt::verify(more.to_string().as_bytes()),
            Err(ReceiptError::Signature),
            "with a field more"
        );
    }
}

#[test]
fn another_key_proves_nothing() {
    let (signer, other) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let forged = statement(&signer).sign(&other);
    assert_eq!(Receipt::verify(&forged), Err(ReceiptError::Signature));
}

#[test]
fn what_is_no_receipt_is_refused() {
    let signer = Identity::generate().unwrap();
    let json: Value = serde_json::from_slice(&statement(&signer).sign(&signer)).unwrap();
    let mut next = json.clone();
    next["haul_receipt"] = 2.into();
    let mut unsigned = json.clone();
    unsigned["signature"] = "".into();
    for (text, error) in [
        ("".to_owned(), None),
        ("{}".to_owned(), Some(ReceiptError::Version)),
        ("[".repeat(10_000), None),
        (next.to_string(), Some(ReceiptError::Version)),
        (unsigned.to_string(), Some(ReceiptError::Field("signature"))),
        ("{\"haul_receipt\":1}".to_owned(), Some(ReceiptError::Field("statement"))),
    ] {
        let found = Receipt::verify(text.as_bytes()).unwrap_err();
        assert!(error.is_none_or(|error| error == found), "{found:?}");
    }
}

/// A key that stands twice would let two readers see two statements under one signature.
#[test]
fn a_repeated_field_does_not_hide_the_signed_one() {
    let signer = Identity::generate().unwrap();
    let signed = String::from_utf8(statement(&signer).sign(&signer)).unwrap();
    let doubled = signed.replacen("\"removed\":", "\"removed\": 6, \"removed\":", 1);
    match Receipt::verify(doubled.as_bytes()) {
        Ok(receipt) => assert_eq!(receipt.statement.removed, 5),
        Err(error) => assert_eq!(error, ReceiptError::Signature),
    }
}
