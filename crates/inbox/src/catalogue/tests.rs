use std::fs;

use super::*;
use crate::scratch::Scratch;

pub(crate) fn row(number: u32) -> DatasetRow {
    let time = jiff::Timestamp::from_millisecond(1_795_000_000_000 + i64::from(number)).unwrap();
    let metadata = "{}".to_owned();
    DatasetRow {
        id: DatasetId::new(time.as_millisecond() as u64, number),
        inbox: "ngs".into(),
        name: format!("run {number}"),
        client: "haul-ed25519 AAAA".into(),
        label: "lab one".into(),
        upload: UploadId([number as u8; 16]),
        offered: time,
        published: time,
        files: 2,
        bytes: 1000,
        content: Digest::of(&number.to_le_bytes()),
        metadata_digest: Digest::of(metadata.as_bytes()),
        metadata,
        path: format!("store/ngs/2026-11/{number}"),
        state: DatasetState::Ok,
    }
}

fn with(number: u32, name: &str, metadata: &str) -> DatasetRow {
    DatasetRow { name: name.into(), metadata: metadata.into(), ..row(number) }
}

fn none(_: &Transaction<'_>) -> rusqlite::Result<()> {
    Ok(())
}

#[test]
fn rows_come_back_as_they_went_in_and_are_found_by_what_names_them() {
    let scratch = Scratch::new();
    let (catalogue, aside) = Catalogue::open(&scratch.dir()).unwrap();
    assert_eq!(aside, None);
    let rows = [row(1), row(2)];
    rows.iter().for_each(|row| catalogue.insert(row, none).unwrap());
    let first = &rows[0];
    assert_eq!(catalogue.dataset(first.id).unwrap().as_ref(), Some(first));
    assert_eq!(catalogue.of_upload(&first.client, &first.upload).unwrap().as_ref(), Some(first));
    assert_eq!(catalogue.of_upload("another", &first.upload).unwrap(), None);
    assert_eq!(catalogue.of_content("ngs", &first.content).unwrap().as_ref(), Some(first));
    assert_eq!(catalogue.of_content("other", &first.content).unwrap(), None);
    assert_eq!(catalogue.of_name("ngs", "run 1").unwrap().as_ref(), Some(first));
    assert_eq!(catalogue.usage(&first.client).unwrap(), Usage { bytes: 2000, datasets: 2 });
    assert_eq!(catalogue.after(Some(first.id), 10).unwrap(), vec![rows[1].clone()]);

    catalogue.set_state(first.id, DatasetState::Missing).unwrap();
    assert_eq!(catalogue.of_content("ngs", &first.content).unwrap(), None);
    assert_eq!(catalogue.usage(&first.client).unwrap(), Usage { bytes: 1000, datasets: 1 });
    // A row with the same id gives way, with its words.
    catalogue.insert(&with(1, "other", "{}"), none).unwrap();
    let found = |query: &str| catalogue.search(query, &Filter::default()).unwrap().len();
    assert_eq!((found("run"), found("other")), (1, 1));
    assert_eq!(catalogue.list(&Filter::default()).unwrap().len(), 2);
}

#[test]
fn searches_find_words_and_places() {
    let scratch = Scratch::new();
    let (catalogue, _) = Catalogue::open(&scratch.dir()).unwrap();
    let rows = [
        with(
            1,
            "run A",
            r#"{"sample": "QABCD", "organism": {"name": "Mus musculus", "strain": "BL6"}, "lanes": [1, 2], "dna": true}"#,
        ),
        with(
            2,
            "Zebrafisch-Läufe",
            r#"{"sample": "QXYZW", "organism": {"name": "Danio rerio"}, "lanes": [3], "dna": false, "c": 6.022e23, "a b": 1}"#,
        ),
        with(3, "run B", r#"{"tricky": "x\" OR 1=1 --", "n": "5", "m": 5.0}"#),
    ];
    rows.iter().for_each(|row| catalogue.insert(row, none).unwrap());
    for (query, numbers) in [
        ("", &[3, 2, 1][..]),
        ("run", &[3, 1]),
        ("RUN mus", &[1]),
        ("laufe", &[2]),
        ("musc*", &[1]),
        ("musc", &[]),
        ("\"mus musculus\"", &[1]),
        ("\"musculus mus\"", &[]),
        ("sample=QABCD", &[1]),
        ("sample=qabcd", &[]),
        ("sample:qab", &[1]),
        ("organism.name:MUS", &[1]),
        ("organism.name=\"Danio rerio\"", &[2]),
        ("lanes=2", &[1]),
        ("lanes=3 sample:q", &[2]),
        ("dna=true", &[1]),
        ("dna=1", &[]),
        ("lanes=2.0", &[1]),
        ("c=6.022e23", &[2]),
        ("m=5", &[3]),
        ("n=5", &[3]),
        ("lab one", &[3, 2, 1]),
        ("\"a b\"=1", &[2]),
        ("tricky:\"' OR\"", &[]),
        ("tricky:or", &[3]),
        ("' OR 1", &[3]),
        ("words:x", &[]),
        ("NEAR( -", &[]),
        ("x*y", &[]),
    ] {
        let found = catalogue.search(query, &Filter::default()).unwrap();
        let expected: Vec<_> =
            numbers.iter().map(|number: &usize| rows[number - 1].clone()).collect();
        assert_eq!(found, expected, "{query}");
    }
    for query in ["a\\b=1", "a..b=1", ".a:1", "\"open"] {
        let result = catalogue.search(query, &Filter::default());
        assert!(matches!(result, Err(CatalogueError::Query(_))), "{query}: {result:?}");
    }
    let many = "a ".repeat(51);
    assert!(catalogue.search(&many, &Filter::default()).is_err());
    let filter = Filter { since: Some(rows[1].published), most: 1, ..Filter::default() };
    assert_eq!(catalogue.list(&filter).unwrap(), vec![rows[2].clone()]);
    let filter = Filter { inbox: Some("none".into()), ..Filter::default() };
    assert_eq!(catalogue.list(&filter).unwrap(), vec![]);
}

#[test]
fn what_fails_beside_a_row_takes_the_row_with_it() {
    let scratch = Scratch::new();
    let (catalogue, _) = Catalogue::open(&scratch.dir()).unwrap();
    let failing = |tx: &Transaction<'_>| tx.execute("INSERT INTO none VALUES (1)", []).map(drop);
    assert!(catalogue.insert(&row(1), failing).is_err());
    assert_eq!(catalogue.list(&Filter::default()).unwrap(), vec![]);
}

#[test]
fn what_cannot_be_read_is_set_aside() {
    for damage in [
        &(|bytes: &mut Vec<u8>| bytes[..16].fill(7)) as &dyn Fn(&mut Vec<u8>),
        &|bytes| bytes[100..8000].fill(0xee),
        &|bytes| bytes[60..64].copy_from_slice(&999_u32.to_be_bytes()),
    ] {
        let scratch = Scratch::new();
        let path = scratch.path().join(CATALOGUE);
        let (catalogue, _) = Catalogue::open(&scratch.dir()).unwrap();
        (0..50).for_each(|number| catalogue.insert(&row(number), none).unwrap());
        drop(catalogue);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        let (catalogue, aside) = Catalogue::open(&scratch.dir()).unwrap();
        assert_eq!(aside.as_deref(), Some("catalogue.db.aside-1"));
        assert_eq!(
            fs::read(scratch.path().join("catalogue.db.aside-1")).unwrap().len(),
            bytes.len()
        );
        assert_eq!(catalogue.list(&Filter::default()).unwrap(), vec![]);
        catalogue.insert(&row(1), none).unwrap();
    }
}

#[test]
fn it_can_be_read_beside_the_server_that_writes() {
    let scratch = Scratch::new();
    let (catalogue, _) = Catalogue::open(&scratch.dir()).unwrap();
    catalogue.insert(&row(1), none).unwrap();
    let reader = Catalogue::open_to_read(&scratch.dir()).unwrap();
    catalogue.insert(&row(2), none).unwrap();
    assert_eq!(reader.search("run", &Filter::default()).unwrap().len(), 2);
    assert!(reader.insert(&row(3), none).is_err());
    assert!(Catalogue::open_to_read(&Scratch::new().dir()).is_err());
}

#[test]
fn upload_ids_have_one_form() {
    let id = UploadId([0xa5; 16]);
    assert_eq!(UploadId::parse(&id.to_string()), Some(id));
    for other in ["", "a5", &"A5".repeat(16), &"a5".repeat(17), &"g5".repeat(16)] {
        assert_eq!(UploadId::parse(other), None);
    }
}
