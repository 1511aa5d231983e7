use super::*;

fn who() -> Who<'static> {
    Who {
        key: "haul-ed25519 AAAA",
        label: "lab\n\"1\"\u{202e}",
        address: Some(SocketAddr::from(([192, 0, 2, 7], 4285))),
    }
}

fn dataset() -> Dataset<'static> {
    Dataset { id: "0id", inbox: "ngs", name: "run 7", files: 2, bytes: 9 }
}

#[test]
fn each_event_is_one_line_with_who_and_when() {
    let now = Timestamp::from_millisecond(1_800_000_000_007).unwrap();
    let (who, dataset) = (who(), dataset());
    let (by, reason) = ("operator", "no\nmore");
    let check = |event: AuditEvent<'_>, what: &str, more: &[(&str, &str)]| {
        let line = of(&event, now);
        assert!(!line.contains('\n'), "{line}");
        let object: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["what"], what);
        assert_eq!(object["at"], "2027-01-15T08:00:00.007Z");
        assert_eq!((&object["key"], &object["label"]), (&who.key.into(), &who.label.into()));
        assert_eq!(object["address"], "192.0.2.7:4285");
        for (name, value) in more {
            assert_eq!(&object[name], value, "{line}");
        }
        let fields = object.as_object().unwrap().len();
        let counts = usize::from(object.get("files").is_some()) * 2;
        assert_eq!(fields, 5 + more.len() + counts, "{line}");
    };
    let place = [("inbox", "ngs"), ("dataset", "0id"), ("name", "run 7")];
    let rights = "inbox=\"ngs\"";
    check(AuditEvent::Requested { who }, "requested", &[]);
    check(AuditEvent::AdmittedByCode { who, rights }, "admitted by code", &[("rights", rights)]);
    check(AuditEvent::Approved { who, rights, by }, "approved", &[("rights", rights), ("by", by)]);
    check(AuditEvent::Revoked { who, by, reason }, "revoked", &[("by", by), ("reason", reason)]);
    check(AuditEvent::RequestExpired { who }, "request expired", &[]);
    let refused = AuditEvent::OfferRefused { who, inbox: "ngs", name: "run 7", code: "13", reason };
    let more = [("inbox", "ngs"), ("name", "run 7"), ("code", "13"), ("reason", reason)];
    check(refused, "offer refused", &more);
    check(AuditEvent::Published { who, dataset }, "published", &place);
    let more = [place[0], place[1], place[2], ("reason", reason)];
    check(AuditEvent::Rejected { who, dataset, reason }, "rejected", &more);
    check(AuditEvent::Expired { who, dataset }, "expired", &place);
}

#[test]
fn no_text_makes_a_line_long() {
    let long = "ä\u{7f}".repeat(1 << 20);
    let who = Who { label: &long, ..who() };
    let line = of(
        &AuditEvent::OfferRefused { who, inbox: &long, name: &long, code: &long, reason: &long },
        Timestamp::UNIX_EPOCH,
    );
    assert!(line.len() < 16 * 1024, "{}", line.len());
    assert!(line.contains('…'));
}
