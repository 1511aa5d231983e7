use std::sync::Mutex as StdMutex;

use jiff::SignedDuration;

use super::*;
use crate::spool::Scratch;

struct Desk {
    scratch: Scratch,
    enrolment: Enrolment,
    lines: Arc<StdMutex<Vec<String>>>,
}

impl Desk {
    fn new(takes_requests: bool) -> Self {
        let scratch = Scratch::in_temporary("haul-enrolment-test-").unwrap();
        let lines = Arc::new(StdMutex::new(Vec::new()));
        let told = lines.clone();
        let log: Log = Arc::new(move |text| told.lock().unwrap().push(text.to_owned()));
        let audit = Audit::open(scratch.dir()).unwrap();
        let enrolment = Enrolment::new(scratch.dir().clone(), takes_requests, audit.into(), log);
        Self { scratch, enrolment, lines }
    }

    fn ask(&self, key: u8, from: &str, code: &str, label: &str) -> Result<bool, RefuseCode> {
        let from = format!("{from}:4000").parse().unwrap();
        let answer = self.enrolment.ask(&PublicKey([key; 32]), from, code.as_bytes(), label);
        answer.map(|(admitted, _)| admitted).map_err(|refusal| refusal.code)
    }

    fn invite(&self, expires: SignedDuration) -> String {
        let now = Timestamp::now();
        let mut codes = Codes::read(self.scratch.dir()).unwrap();
        let code = codes.invite("inbox=\"ngs\",quota=2T", "lab 1", now, now + expires).unwrap();
        codes.write(self.scratch.dir()).unwrap();
        code
    }

    fn text(&self, name: &str) -> String {
        state::read_list(self.scratch.dir(), name).unwrap()
    }

    fn requests(&self) -> Requests {
        Requests::open(self.scratch.dir()).unwrap()
    }
}

const HOUR: SignedDuration = SignedDuration::from_hours(1);

#[test]
fn a_code_lets_one_key_in_once() {
    let desk = Desk::new(false);
    assert!(!desk.enrolment.is_open());
    assert_eq!(desk.ask(1, "10.0.0.1", "", ""), Err(RefuseCode::Denied), "no requests are taken");
    let code = desk.invite(HOUR);
    assert!(desk.enrolment.is_open());
    assert!(!desk.text("codes").contains(&code[..5]), "the code itself is nowhere");
    assert_eq!(desk.ask(1, "10.0.0.1", "nonsense", ""), Err(RefuseCode::Denied));
    // As people type.
    let typed = code.replace('-', "").to_uppercase();
    assert_eq!(desk.ask(1, "10.0.0.1", &typed, "a label"), Ok(true));
    let line = format!("inbox=\"ngs\",quota=2T {}\n", PublicKey([1; 32]).to_line("lab 1"));
    assert_eq!(desk.text("authorized_keys"), line);
    assert_eq!(desk.ask(2, "10.0.0.2", &code, ""), Err(RefuseCode::Denied));
    assert!(!desk.enrolment.is_open(), "no code is left");
    let audit = desk.text("audit.jsonl");
    assert_eq!(audit.lines().count(), 1, "{audit}");
    assert!(audit.contains("admitted by code") && audit.contains("a label"), "{audit}");
}

#[test]
fn codes_expire_and_lines_that_are_none_are_kept() {
    let desk = Desk::new(false);
    let (late, good) = (desk.invite(-HOUR), desk.invite(HOUR));
    let text = format!("what is this\n{}", desk.text("codes"));
    desk.scratch.dir().write_private(&own_name("codes"), text.as_bytes()).unwrap();
    assert_eq!(desk.ask(1, "10.0.0.1", &late, ""), Err(RefuseCode::Denied));
    assert_eq!(desk.ask(1, "10.0.0.1", &good, ""), Ok(true));
    assert!(desk.text("codes").starts_with("what is this\n"));
    // The next invitation sweeps what has expired.
    desk.invite(HOUR);
    assert_eq!(desk.text("codes").lines().count(), 2, "{}", desk.text("codes"));
}

#[test]
fn a_code_that_was_used_is_gone_before_its_key_is_in() {
    let desk = Desk::new(false);
    let code = desk.invite(HOUR);
    // The list of keys cannot be written: what a crash between both steps leaves.
    desk.scratch.dir().make_dir(&own_name(AUTHORIZED_KEYS), 0o700).unwrap();
    assert_eq!(desk.ask(1, "10.0.0.1", &code, ""), Err(RefuseCode::Disk));
    desk.scratch.dir().remove_dir(&own_name(AUTHORIZED_KEYS)).unwrap();
    assert_eq!(desk.ask(1, "10.0.0.1", &code, ""), Err(RefuseCode::Denied));
    assert_eq!(desk.text("authorized_keys"), "");
}

#[test]
fn wrong_codes_are_few_from_one_address() {
    let desk = Desk::new(false);
    let code = desk.invite(HOUR);
    for _ in 0..WRONG_CODES {
        assert_eq!(desk.ask(1, "10.0.0.1", "wrong", ""), Err(RefuseCode::Denied));
    }
    assert_eq!(desk.ask(1, "10.0.0.1", &code, ""), Err(RefuseCode::Busy), "also the right one");
    assert_eq!(desk.ask(1, "10.0.0.2", &code, ""), Ok(true));
}

#[test]
fn limits_are_over_after_their_time() {
    let mut limit = PerAddress::new(Duration::from_secs(60), 2);
    let began = Instant::now();
    let (one, other) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
    limit.count(one, began);
    assert!(limit.admits(one, began));
    limit.count(other, began);
    assert!(!limit.admits(one, began), "one /64 is one place");
    assert!(limit.admits(one, began + Duration::from_secs(60)));
    // However many addresses there are, it remembers few.
    for number in 0..5_000_u32 {
        limit.count(IpAddr::V4(number.into()), began + Duration::from_secs(1));
    }
    assert!(limit.admits(one, began), "it was forgotten for others");
}

#[test]
fn requests_are_kept_once_for_each_key_and_few_from_one_address() {
    let desk = Desk::new(true);
    for _ in 0..2 {
        assert_eq!(desk.ask(1, "10.0.0.1", "", "me"), Ok(false));
    }
    for key in 2..=5 {
        assert_eq!(desk.ask(key, "10.0.0.1", "", ""), Ok(false));
    }
    assert_eq!(desk.ask(6, "10.0.0.1", "", ""), Err(RefuseCode::Busy));
    // Who asks again keeps its place.
    assert_eq!(desk.ask(1, "10.0.0.1", "", "me again"), Ok(false));
    assert_eq!(desk.ask(6, "10.0.0.2", "", ""), Ok(false));
    let all = desk.requests().list().unwrap();
    assert_eq!(all.len(), 6);
    assert_eq!(all.iter().filter(|request| request.label == "me again").count(), 1);
    assert_eq!(desk.text("audit.jsonl").lines().count(), 6);
    // Whoever asks all the time is not heard.
    assert_eq!(desk.ask(1, "10.0.0.1", "", ""), Ok(false));
    assert_eq!(desk.ask(1, "10.0.0.1", "", ""), Ok(false));
    assert_eq!(desk.ask(1, "10.0.0.1", "", ""), Err(RefuseCode::Busy));
}

#[test]
fn requests_are_kept_for_a_week_and_not_many_in_all() {
    let desk = Desk::new(true);
    let (now, requests) = (Timestamp::now(), desk.requests());
    let request = |number: u16, at: Timestamp| {
        let mut key = [7; 32];
        key[..2].copy_from_slice(&number.to_le_bytes());
        let [high, low] = number.to_be_bytes();
        let from = SocketAddr::from(([10, 1, high, low], 1));
        Request::new(PublicKey(key), "", from, at)
    };
    let old = request(1_000, now - SignedDuration::from_hours(7 * 24 + 1));
    requests.put(&old).unwrap();
    let folder = desk.scratch.path().join("requests");
    let template = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(template).unwrap();
    for number in 0..1_000 {
        let new = request(number, now);
        let text = text
            .replace(&old.key.to_line(""), &new.key.to_line(""))
            .replace(&old.address, &new.address)
            .replace(&old.at.to_string(), &now.to_string());
        std::fs::write(folder.join(format!("{number}.json")), text).unwrap();
    }
    assert_eq!(requests.expire(now).unwrap(), [old]);
    assert_eq!(requests.list().unwrap().len(), 1_000);
    assert_eq!(requests.would_take(&request(2_000, now)).unwrap(), Err(requests::Full::InAll));
    assert_eq!(requests.would_take(&request(5, now)).unwrap(), Ok(false));
    // What is no request is in nobody's way.
    std::fs::write(folder.join("nonsense"), "{").unwrap();
    assert_eq!(requests.list().unwrap().len(), 1_000);
}

#[test]
fn labels_from_outside_do_no_harm() {
    let desk = Desk::new(true);
    let evil = "\u{1b}[2J\nhaul-ed25519 AAAA\r\u{202e}\"";
    assert_eq!(desk.ask(1, "10.0.0.1", "", evil), Ok(false));
    assert_eq!(desk.requests().list().unwrap()[0].label, evil, "kept as it is");
    let is_harmless = |text: &str| !text.chars().any(|c| c != '\n' && link::is_unprintable(c));
    let log = desk.lines.lock().unwrap().join("\n");
    assert!(is_harmless(&log) && log.lines().count() == 1, "{log:?}");
    let audit = desk.text("audit.jsonl");
    assert!(audit.lines().count() == 1 && !audit.contains('\u{1b}'), "{audit:?}");
    let code = desk.invite(HOUR);
    assert_eq!(desk.ask(1, "10.0.0.1", &code, evil), Ok(true));
    let keys = desk.text("authorized_keys");
    assert!(keys.lines().count() == 1 && is_harmless(&keys), "{keys:?}");
    assert_eq!(desk.requests().list().unwrap(), [], "who is in asks no more");
}
