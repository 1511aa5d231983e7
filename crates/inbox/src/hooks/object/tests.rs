use std::net::SocketAddr;

use link::InboxRights;
use serde_json::Value;

use super::*;

fn client() -> Client {
    Client {
        id: "haul-ed25519 AAAA".to_owned(),
        label: "lab \"1\"".to_owned(),
        address: Some(SocketAddr::from(([192, 0, 2, 7], 4285))),
        rights: InboxRights::default(),
        max_rate_bytes_per_s: None,
    }
}

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_published_dataset_is_its_metadata_json_with_the_event_and_the_folder() {
    let sidecar = "{\n  \"haul_dataset\": 1, \"metadata\": {\"n\": 1.10, \"z\": 12345678901234567890123, \"a\": 0}\n}\n";
    let text = published(sidecar, Path::new("/srv/\"in\"/7")).unwrap();
    let object = read(&text);
    assert_eq!(object["event"], "published");
    assert_eq!((&object["haul_hook"], &object["haul_dataset"]), (&json!(1), &json!(1)));
    assert_eq!(object["path"], "/srv/\"in\"/7");
    // As the client wrote them: the order, and numbers that no machine word holds.
    assert!(text.contains("{\"n\": 1.10, \"z\": 12345678901234567890123, \"a\": 0}"), "{text}");
    assert_eq!(read(&published("{ }", Path::new("/")).unwrap())["event"], "published");
    assert_eq!(published("[]", Path::new("/")), None);
}

#[test]
fn an_offer_is_told_with_the_metadata_as_they_came() {
    let told = Offer {
        upload: [7; 16],
        inbox: String::new(),
        name: "run \"7\"".to_owned(),
        metadata_len: 14,
        files: 2,
        bytes: 1 << 40,
        content: None,
        check: true,
    };
    let text = offer(&client(), "ngs", &told, " {\"n\": 1.10}\n");
    let object = read(&text);
    assert_eq!(object["event"], "offer");
    assert_eq!((&object["inbox"], &object["name"]), (&json!("ngs"), &json!("run \"7\"")));
    assert_eq!(
        (&object["label"], &object["address"]),
        (&json!("lab \"1\""), &json!("192.0.2.7:4285"))
    );
    assert_eq!((&object["bytes"], &object["content"]), (&json!(1u64 << 40), &Value::Null));
    assert!(text.ends_with(",\"metadata\":{\"n\": 1.10}}"), "{text}");
}

#[test]
fn an_upload_that_expires_says_when() {
    let upload = Expiring {
        id: "0id",
        inbox: "ngs",
        name: "run 7",
        client: &client(),
        files: 2,
        bytes: 9,
        at: jiff::Timestamp::from_second(1_800_000_000).unwrap(),
    };
    let object = read(&expiring(&upload));
    assert_eq!((&object["event"], &object["id"]), (&json!("expiring"), &json!("0id")));
    assert_eq!(object["expires"], "2027-01-15T08:00:00Z");
}
