use super::*;

#[test]
fn what_a_person_can_read_is_a_name() {
    for name in ["run 42", "Jörg's µ-data", "...", "-rf", "a\\b", "日本", &"x".repeat(200)] {
        assert_eq!(check_name(name), Ok(()), "{name}");
    }
    use DatasetNameError::*;
    for (name, error) in [
        ("", Empty),
        (".", Dots),
        ("..", Dots),
        ("a/b", Slash),
        ("a\nb", Invisible),
        ("a\u{202e}b", Invisible),
        ("a\u{200b}b", Invisible),
        ("a\0b", Invisible),
        ("\u{1b}[2J", Invisible),
        (" a", Space),
    ] {
        assert_eq!(check_name(name), Err(error), "{name:?}");
    }
    assert_eq!(check_name(&"ä".repeat(101)), Err(TooLong(202)));
}

#[test]
fn folders_are_plain_ascii_and_lead_back_to_the_id() {
    let id = DatasetId::new(1_795_000_000_000, 7);
    for (name, tail) in [
        ("run 42", "run_42"),
        ("..hidden", "hidden"),
        ("-rf", "rf"),
        ("...", ""),
        ("Jörg/..\\x", "J_rg_..\\x".replace('\\', "_").as_str()),
        (&"ä".repeat(100), &"_".repeat(100)),
        (&"y".repeat(200), &"y".repeat(100)),
    ] {
        let folder = folder_name(&id, name);
        assert_eq!(folder.to_string(), format!("{id}-{tail}"));
        assert_eq!(id_of_folder(folder.as_bytes()), Some(id));
    }
    for other in ["", "x", id.as_str(), "0123456789abcdef_x", "0123456789ABCDEF-x"] {
        assert_eq!(id_of_folder(other.as_bytes()), None, "{other}");
    }
}

#[test]
fn ids_sort_by_time_and_have_one_form() {
    assert_eq!(DatasetId::new(0, 0).as_str(), "0000000000000000");
    assert_eq!(DatasetId::new(u64::MAX, u32::MAX).as_str(), "zzzzzzzzzzzzzzzz");
    let (early, late) =
        (DatasetId::new(1_795_000_000_000, u32::MAX), DatasetId::new(1_795_000_000_001, 0));
    assert!(early < late && early.as_str() < late.as_str());
    assert_eq!(early.millis(), 1_795_000_000_000);
    assert_eq!(DatasetId::parse(early.as_str()), Some(early));
    for other in [
        "",
        "000000000000000",
        "00000000000000000",
        "000000000000000O",
        "000000000000000i",
        "00000000000000..",
    ] {
        assert_eq!(DatasetId::parse(other), None);
    }
}
