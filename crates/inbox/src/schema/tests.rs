use serde_json::json;

use super::*;

fn compile(schema: Value) -> Schema {
    Schema::compile(schema.to_string().as_bytes()).unwrap()
}

fn lab() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://lab.example/schemas/ngs-2.1.json",
        "type": "object",
        "required": ["sample", "taken"],
        "additionalProperties": false,
        "properties": {
            "sample": { "type": "string", "pattern": "^Q[A-Z0-9]{4}$" },
            "taken": { "type": "string", "format": "date" },
            "organism": { "enum": ["human", "mouse"] },
            "lanes": { "type": "array", "items": { "type": "integer", "minimum": 1 } },
            "by": { "$ref": "#/$defs/person" }
        },
        "$defs": { "person": { "type": "object", "required": ["orcid"] } }
    })
}

#[test]
fn faults_have_their_place_and_are_said_plainly() {
    let schema = compile(lab());
    let good =
        json!({"sample": "QABCD", "taken": "2026-11-22", "organism": "mouse", "lanes": [1, 2]});
    assert_eq!(schema.judge(&good), (Vec::new(), 0));
    for (metadata, path, reason) in [
        (json!({"taken": "2026-11-22"}), "", "\"sample\" is missing"),
        (
            json!({"sample": 7, "taken": "2026-11-22"}),
            "/sample",
            "it must be a text, and is a number",
        ),
        (
            json!({"sample": "x", "taken": "2026-11-22"}),
            "/sample",
            "\"x\" does not match the pattern ^Q[A-Z0-9]{4}$",
        ),
        (
            json!({"sample": "QABCD", "taken": "22.11.2026"}),
            "/taken",
            "\"22.11.2026\" is not a date like 2026-11-22",
        ),
        (
            json!({"sample": "QABCD", "taken": "2026-11-22", "organism": "rat"}),
            "/organism",
            "\"rat\" is none of \"human\", \"mouse\"",
        ),
        (
            json!({"sample": "QABCD", "taken": "2026-11-22", "lanes": [1, 0]}),
            "/lanes/1",
            "0 is less than 1, the least",
        ),
        (
            json!({"sample": "QABCD", "taken": "2026-11-22", "by": {}}),
            "/by",
            "\"orcid\" is missing",
        ),
        (
            json!({"sample": "QABCD", "taken": "2026-11-22", "smaple": 1}),
            "",
            "\"smaple\" is not known here; is it a slip of the pen?",
        ),
    ] {
        let (faults, more) = schema.judge(&metadata);
        assert_eq!((faults, more), (vec![Fault { path: path.into(), reason: reason.into() }], 0));
    }
}

#[test]
fn the_first_hundred_are_told_and_the_rest_counted() {
    let schema = compile(json!({"properties": {"a": {"items": {"type": "string"}}}}));
    let (faults, more) = schema.judge(&json!({"a": vec![1; 1234]}));
    assert_eq!((faults.len(), more), (MOST_FAULTS, 1134));
    assert_eq!(faults[99].path, "/a/99");
}

#[test]
fn a_schema_has_a_name_and_a_version_of_its_own() {
    let schema = compile(lab());
    assert_eq!(schema.name(), Some("https://lab.example/schemas/ngs-2.1.json"));
    assert_eq!(schema.version(), Some("2.1"));
    let schema = compile(json!({"title": "NGS", "version": 3}));
    assert_eq!((schema.name(), schema.version()), (Some("NGS"), Some("3")));
    let text = b"{}";
    let schema = Schema::compile(text).unwrap();
    assert_eq!((schema.name(), schema.version(), schema.text()), (None, None, &text[..]));
    assert_eq!(schema.digest(), Digest::of(text));
}

#[test]
fn what_is_no_schema_is_refused_with_its_place() {
    for (schema, part) in [
        (json!({"type": "strnig"}), "at /type"),
        (json!({"properties": {"a": {"minimum": "x"}}}), "at /properties/a/minimum"),
        (json!({"$ref": "https://elsewhere.example/x.json"}), "outside of itself"),
        (json!({"$ref": "other.json"}), "outside of itself"),
        (json!({"$ref": "file:///etc/passwd"}), "outside of itself"),
        (json!({"$ref": "#/$defs/none"}), "outside of itself"),
        (json!({"$schema": "https://elsewhere.example/meta"}), "outside of itself"),
        (json!({"format": "datum"}), "datum"),
        (json!({"pattern": "("}), "pattern"),
        (json!({"pattern": "(?=a)b"}), "look-around"),
        (json!({"pattern": "(a)\\1"}), "look-around"),
        (json!({"pattern": "((a{1,1000}){1,1000}){1,1000}"}), "pattern"),
        (json!([]), "schema"),
    ] {
        let error = Schema::compile(schema.to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.contains(part), "{schema}: {error}");
    }
    assert!(matches!(Schema::compile(b"{\"a\": 1, \"a\": 2}"), Err(SchemaError::Json(_))));
    assert!(matches!(Schema::compile(&vec![b' '; 2 << 20]), Err(SchemaError::Json(_))));
}

#[test]
fn drafts_are_found_and_formats_are_checked_in_each() {
    for draft in
        ["http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2019-09/schema"]
    {
        let schema = compile(json!({"$schema": draft, "properties": {"d": {"format": "date"}}}));
        assert_eq!(schema.judge(&json!({"d": "today"})).0.len(), 1);
    }
}

/// Each of these takes for ever where patterns go back in the text; here the work is the product of both lengths.
#[test]
fn patterns_that_explode_elsewhere_are_linear() {
    for pattern in ["^(a+)+$", "^(a|aa)+$", "^(a|a?)+$", "^([a-z]+)*x$"] {
        let schema = compile(json!({"properties": {"s": {"pattern": pattern}}}));
        let text = "a".repeat(1 << 18) + "!";
        assert_eq!(schema.judge(&json!({ "s": text })).0.len(), 1, "{pattern}");
    }
}

#[test]
fn references_that_double_at_each_step_are_refused() {
    let mut defs = serde_json::Map::new();
    for step in 0..40 {
        let next = format!("#/$defs/s{}", step + 1);
        defs.insert(format!("s{step}"), json!({"allOf": [{"$ref": next}, {"$ref": next}]}));
    }
    defs.insert("s40".into(), json!({"type": "object"}));
    let schema = json!({"$ref": "#/$defs/s0", "$defs": defs});
    assert_eq!(Schema::compile(schema.to_string().as_bytes()).unwrap_err(), SchemaError::TooMany);
    // What refers to itself for a part of the value is an ordinary schema.
    let tree = compile(json!({"$ref": "#/$defs/node", "$defs": {"node": {
        "type": "object", "properties": {"left": {"$ref": "#/$defs/node"}, "right": {"$ref": "#/$defs/node"}}}}}));
    assert_eq!(tree.judge(&json!({"left": {"right": 1}})).0[0].path, "/left/right");
}

#[test]
fn it_is_kept_under_its_digest() {
    let scratch = crate::scratch::Scratch::new();
    let schema = compile(lab());
    for _ in 0..2 {
        schema.keep_in(&scratch.dir()).unwrap();
        let kept = std::fs::read(scratch.path().join(format!("{}.json", schema.digest()))).unwrap();
        assert_eq!(kept, schema.text());
    }
}
