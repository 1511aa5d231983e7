//! Sources that lie about files which the target may have under another name.

use haul::files::Digest;
use haul::transfer::message::SourceMessage;
use testkit::hostile::{Step, bundle, file, offer};

use super::{Case, Expect, case, check, say};

/// A file is sent, and another one looks like it.
#[test]
fn a_source_that_lies_about_what_is_there_under_another_name() {
    use Expect::{Breach, Ends, Waits};
    const TEXT: &str = match std::str::from_utf8(&[b'x'; 70_000]) {
        Ok(text) => text,
        Err(_) => "",
    };
    let one = || offer(vec![file(1, 0, "a", TEXT.len() as u64)]);
    let other = || offer(vec![file(2, 0, "b", TEXT.len() as u64)]);
    let sum = |digest| say(SourceMessage::Sum { index: 2, digest });
    let (right, wrong) = (Digest::of(TEXT.as_bytes()), Digest::from_bytes([1; 32]));
    let sent = || {
        let outcome = Step::AwaitOutcome(1);
        vec![one(), Step::AwaitNeed(1), bundle(1, TEXT.as_bytes()), outcome, other()]
    };
    let case = |name, behind: Vec<Step>, expect, stands| {
        let script = [sent(), vec![Step::AwaitAsk(2)], behind].concat();
        Case { stands, ..case(name, script, expect) }
    };
    let alone: &[(&str, &str)] = &[("a", TEXT)];
    check(
        "hostile-twins",
        vec![
            case("the same", vec![sum(right)], Ends(2), &[("a", TEXT), ("b", TEXT)]),
            case("a digest of something else", vec![sum(wrong), Step::AwaitNeed(2)], Waits, alone),
            case(
                "something else, which is sent",
                vec![sum(wrong), Step::AwaitNeed(2), bundle(2, TEXT.as_bytes())],
                Ends(2),
                &[("a", TEXT), ("b", TEXT)],
            ),
            case(
                "said to be the same",
                vec![say(SourceMessage::Same { index: 2 })],
                Breach("same"),
                alone,
            ),
            case("two digests", vec![sum(wrong), sum(right)], Breach("not being received"), alone),
            case("content at once", vec![bundle(2, TEXT.as_bytes())], Breach("not asked"), alone),
            case("no answer", vec![], Waits, alone),
        ],
    );
}
