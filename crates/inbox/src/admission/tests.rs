use std::collections::HashMap;

use super::fair::QUANTUM;
use super::*;

const LARGE: u64 = 1 << 30;
const SMALL: u64 = 1 << 20;

fn second(number: u64) -> Duration {
    Duration::from_secs(number)
}

fn key(client: &str, upload: u64) -> UploadKey {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&upload.to_le_bytes());
    UploadKey { client: client.into(), upload: bytes }
}

fn ticket(client: &str, upload: u64, bytes: u64) -> Ticket {
    Ticket { key: key(client, upload), bytes, disk: 0 }
}

fn budgets(active: usize, small_active: usize) -> Budgets {
    Budgets { active, small_active, ..Budgets::default() }
}

/// Who was admitted and who was dropped since it was asked last.
fn told(queue: &mut Admission) -> (Vec<UploadKey>, Vec<UploadKey>) {
    let (mut admitted, mut dropped) = (Vec::new(), Vec::new());
    while let Some(output) = queue.poll_output() {
        match output {
            Output::Admitted(key) => admitted.push(key),
            Output::Dropped(key) => dropped.push(key),
        }
    }
    (admitted, dropped)
}

fn admitted(queue: &mut Admission) -> Vec<UploadKey> {
    let (admitted, dropped) = told(queue);
    assert_eq!(dropped, []);
    admitted
}

/// The place of an upload that waits, and how many wait.
fn place(queue: &Admission, key: &UploadKey) -> Option<(u64, u64)> {
    let standing = queue.standing(second(0), key)?;
    Some((standing.position, standing.length))
}

#[test]
fn small_ones_may_take_large_turns_and_never_the_other_way_round() {
    let now = second(0);
    let mut queue = Admission::new(budgets(2, 1));
    for upload in 0..4 {
        queue.enter(now, ticket("one", upload, SMALL)).unwrap();
    }
    assert_eq!(admitted(&mut queue), [key("one", 0), key("one", 1), key("one", 2)]);
    // Nothing is free for the large one, though a small turn will be; and then the large turn is its own.
    queue.enter(now, ticket("two", 0, LARGE)).unwrap();
    assert_eq!(admitted(&mut queue), []);
    queue.ended(now, &key("one", 0));
    assert_eq!(admitted(&mut queue), [key("two", 0)]);
    queue.ended(now, &key("one", 1));
    assert_eq!(admitted(&mut queue), [key("one", 3)]);
    // Two large ones, and the small turn stays free of a third.
    queue.ended(now, &key("one", 2));
    queue.ended(now, &key("one", 3));
    queue.enter(now, ticket("two", 1, LARGE)).unwrap();
    queue.enter(now, ticket("two", 2, LARGE)).unwrap();
    assert_eq!(admitted(&mut queue), [key("two", 1)]);
    assert_eq!(place(&queue, &key("two", 2)), Some((1, 1)));
    queue.enter(now, ticket("one", 9, SMALL)).unwrap();
    assert_eq!(admitted(&mut queue), [key("one", 9)]);
}

#[test]
fn a_thousand_uploads_do_not_delay_anothers_first() {
    for bytes in [SMALL, LARGE] {
        let now = second(0);
        let mut queue = Admission::new(budgets(1, 0));
        for upload in 0..1000 {
            queue.enter(now, ticket("many", upload, bytes)).unwrap();
        }
        assert_eq!(admitted(&mut queue), [key("many", 0)]);
        for other in ["one", "two", "three"] {
            queue.enter(now, ticket(other, 0, 40 * LARGE)).unwrap();
        }
        let mut ended = key("many", 0);
        let mut order = Vec::new();
        for _ in 0..5 {
            queue.ended(now, &ended);
            let next = admitted(&mut queue);
            assert_eq!(next.len(), 1);
            ended = next[0].clone();
            order.push(ended.client.to_string());
        }
        let of_many = order.iter().take(4).filter(|client| *client == "many").count();
        assert!(of_many <= 1, "{bytes}: {order:?}");
    }
}

#[test]
fn what_clients_get_is_even_in_bytes() {
    let now = second(0);
    let mut queue = Admission::new(budgets(1, 0));
    for upload in 0..800 {
        queue.enter(now, ticket("thick", upload, 8 * LARGE)).unwrap();
        queue.enter(now, ticket("thin", upload, LARGE)).unwrap();
    }
    let mut bytes: HashMap<String, u64> = HashMap::new();
    for _ in 0..450 {
        for key in admitted(&mut queue) {
            let size = if &*key.client == "thick" { 8 } else { 1 };
            *bytes.entry(key.client.to_string()).or_default() += size;
            queue.ended(now, &key);
        }
    }
    let (thick, thin) = (bytes["thick"], bytes["thin"]);
    assert!(thick.abs_diff(thin) <= 8, "{thick} GiB and {thin} GiB");
}

#[test]
fn places_are_bounded_and_kept() {
    let now = second(0);
    let limits = Budgets { waiting: 5, waiting_per_client: 3, ..budgets(1, 0) };
    let mut queue = Admission::new(limits);
    for upload in 0..4 {
        queue.enter(now, ticket("one", upload, LARGE)).unwrap();
    }
    assert_eq!(queue.enter(now, ticket("one", 4, LARGE)), Err(NoPlace::FullForClient(3)));
    queue.enter(now, ticket("two", 0, LARGE)).unwrap();
    queue.enter(now, ticket("three", 0, LARGE)).unwrap();
    assert_eq!(queue.enter(now, ticket("four", 0, LARGE)), Err(NoPlace::Full(5)));
    // The same again has the place that it had, also while nobody else could enter.
    let before = place(&queue, &key("one", 2));
    assert_eq!(queue.enter(now, ticket("one", 2, LARGE)), Ok(Entered::Waits));
    assert_eq!(place(&queue, &key("one", 2)), before);
    // Two connections wait for it; one of them breaks, and nothing changes.
    queue.left(now, &key("one", 2));
    assert_eq!(place(&queue, &key("one", 2)), before);
    // With another size it begins anew; one that is under way does not become another.
    assert_eq!(queue.enter(now, ticket("one", 2, 2 * LARGE)), Ok(Entered::Waits));
    assert_eq!(queue.enter(now, ticket("one", 0, 2 * LARGE)), Err(NoPlace::Differs));
}

#[test]
fn who_is_away_is_passed_over_and_keeps_the_front() {
    let mut queue = Admission::new(budgets(1, 0));
    for client in ["a", "b", "c", "d"] {
        queue.enter(second(0), ticket(client, 0, LARGE)).unwrap();
    }
    assert_eq!(admitted(&mut queue), [key("a", 0)]);
    queue.left(second(1), &key("b", 0));
    assert_eq!(place(&queue, &key("c", 0)), Some((1, 2)));
    queue.ended(second(2), &key("a", 0));
    assert_eq!(admitted(&mut queue), [key("c", 0)]);
    assert_eq!(queue.came_back(second(500), &key("b", 0)), Some(Entered::Waits));
    assert_eq!(place(&queue, &key("b", 0)), Some((1, 2)));
    queue.left(second(501), &key("b", 0));
    queue.changes(second(501));
    assert_eq!(queue.poll_timeout(), Some(second(32)), "c has its turn and has not begun");
    assert!(queue.began(&key("c", 0)) && !queue.began(&key("c", 0)));
    queue.handle_timeout(second(1100));
    assert_eq!(queue.poll_output(), None);
    queue.handle_timeout(second(1101));
    assert_eq!(told(&mut queue), (vec![], vec![key("b", 0)]));
    assert_eq!(queue.came_back(second(1102), &key("b", 0)), None);
}

#[test]
fn a_turn_that_is_not_taken_goes_to_the_next() {
    let mut queue = Admission::new(budgets(1, 0));
    for client in ["a", "b", "c"] {
        queue.enter(second(0), ticket(client, 0, LARGE)).unwrap();
    }
    assert_eq!(admitted(&mut queue), [key("a", 0)]);
    // Its connection breaks in this moment: the turn is the next one's, and it is at the front when it is back.
    queue.left(second(1), &key("a", 0));
    assert_eq!(admitted(&mut queue), [key("b", 0)]);
    queue.came_back(second(2), &key("a", 0));
    assert_eq!(place(&queue, &key("a", 0)), Some((1, 2)));
    // Its connection is there, and it does not begin.
    queue.handle_timeout(second(31));
    assert_eq!(told(&mut queue), (vec![key("a", 0)], vec![key("b", 0)]));
}

#[test]
fn without_a_lane_the_turn_is_given_up_and_over_commitment_is_bounded() {
    let mut queue = Admission::new(budgets(2, 0));
    for client in ["a", "b", "c", "d", "e", "f"] {
        queue.enter(second(0), ticket(client, 0, LARGE)).unwrap();
    }
    let mut now = 0;
    // Two at a time lose their lanes, and two others have their turns.
    for pair in [["a", "b"], ["c", "d"], ["e", "f"]] {
        assert_eq!(admitted(&mut queue), pair.map(|client| key(client, 0)));
        for client in pair {
            assert!(queue.began(&key(client, 0)));
            assert!(queue.link(second(now), &key(client, 0), false));
        }
        queue.handle_timeout(second(now + 29));
        assert_eq!(queue.poll_output(), None);
        now += 30;
        if pair[0] != "e" {
            queue.handle_timeout(second(now));
        }
    }
    // Two are carried still. Two more go on at once, a fifth does not: it enters again and is the next.
    assert!(queue.link(second(now), &key("e", 0), true));
    assert!(queue.link(second(now), &key("f", 0), true));
    assert!(queue.link(second(now), &key("c", 0), true));
    assert!(queue.link(second(now), &key("b", 0), true));
    assert!(!queue.link(second(now), &key("a", 0), true));
    queue.enter(second(now), ticket("g", 0, LARGE)).unwrap();
    assert_eq!(queue.enter(second(now), ticket("a", 0, LARGE)), Ok(Entered::Waits));
    assert_eq!(place(&queue, &key("a", 0)), Some((1, 2)));
    for (client, next) in [("e", None), ("f", None), ("c", Some("a")), ("b", Some("g"))] {
        queue.ended(second(now), &key(client, 0));
        let next: Vec<UploadKey> = next.map(|next| key(next, 0)).into_iter().collect();
        assert_eq!(admitted(&mut queue), next);
    }
    // An offer that is made again for one that gave its turn up goes on too.
    assert_eq!(queue.enter(second(now), ticket("d", 0, LARGE)), Ok(Entered::HasTurn));
}

#[test]
fn of_uploads_that_gave_up_their_turn_few_are_kept_for_each_client() {
    let mut queue = Admission::new(budgets(2, 0));
    let mut dropped = Vec::new();
    for upload in 0..6 {
        queue.enter(second(0), ticket("a", upload, LARGE)).unwrap();
    }
    for round in 0..3 {
        let (begin, gone) = told(&mut queue);
        dropped.extend(gone);
        for key in begin {
            assert!(queue.began(&key));
            queue.link(second(round * 30), &key, false);
        }
        queue.handle_timeout(second(round * 30 + 30));
    }
    dropped.extend(told(&mut queue).1);
    assert_eq!(dropped, [0, 1, 2, 3].map(|upload| key("a", upload)));
}

#[test]
fn a_full_disk_holds_up_only_its_own() {
    let now = second(0);
    let mut queue = Admission::new(budgets(1, 0));
    queue.enter(now, ticket("a", 0, LARGE)).unwrap();
    assert_eq!(admitted(&mut queue), [key("a", 0)]);
    queue.enter(now, ticket("b", 0, LARGE)).unwrap();
    queue.enter(now, Ticket { disk: 1, ..ticket("c", 0, LARGE) }).unwrap();
    queue.disk_is_full(now, 0, true);
    assert_eq!(queue.standing(now, &key("b", 0)).unwrap().reason, Reason::Disk);
    assert_eq!(place(&queue, &key("c", 0)), Some((1, 2)));
    queue.ended(now, &key("a", 0));
    assert_eq!(admitted(&mut queue), [key("c", 0)]);
    queue.ended(now, &key("c", 0));
    assert_eq!(admitted(&mut queue), []);
    queue.disk_is_full(now, 0, false);
    assert_eq!(admitted(&mut queue), [key("b", 0)]);
}

#[test]
fn estimates_come_from_what_drains() {
    let mut queue = Admission::new(budgets(2, 0));
    let all = [("a", 60), ("b", 20), ("c", 30), ("d", 50)];
    for (client, gigabytes) in all {
        queue.enter(second(0), ticket(client, 0, gigabytes * 1_000_000_000)).unwrap();
    }
    assert_eq!(queue.standing(second(0), &key("c", 0)).unwrap().estimate, None);
    for step in 0..=10 {
        for (client, _) in &all[..2] {
            queue.progress(second(step), &key(client, 0), step * 500_000_000);
        }
    }
    // A gigabyte per second in all. Of b 15 are left, and a gets as many meanwhile.
    let estimate = |client| queue.standing(second(10), &key(client, 0)).unwrap().estimate.unwrap();
    assert_eq!(estimate("c").as_secs_f64().round(), 30.0);
    assert_eq!(estimate("d").as_secs_f64().round(), 60.0);
}

#[test]
fn changes_are_told_once_and_not_too_often() {
    let mut queue = Admission::new(budgets(1, 0));
    for client in ["a", "b", "c"] {
        queue.enter(second(0), ticket(client, 0, LARGE)).unwrap();
    }
    let places = |changes: Vec<(UploadKey, Standing)>| {
        let place =
            |(key, standing): (UploadKey, Standing)| (key.client.to_string(), standing.position);
        changes.into_iter().map(place).collect::<Vec<_>>()
    };
    assert_eq!(places(queue.changes(second(0))), [("b".to_owned(), 1), ("c".to_owned(), 2)]);
    queue.ended(second(0), &key("a", 0));
    assert_eq!(places(queue.changes(second(0))), []);
    let at = queue.poll_timeout().unwrap();
    assert_eq!(at, Duration::from_millis(250));
    assert_eq!(places(queue.changes(at)), [("c".to_owned(), 1)]);
    assert_eq!(places(queue.changes(second(9))), []);
}

#[test]
fn uploads_that_are_withdrawn_leave_no_gap() {
    let mut queue = Admission::new(budgets(1, 0));
    for upload in 0..100 {
        queue.enter(second(0), ticket("a", upload, LARGE)).unwrap();
    }
    for upload in 0..10 {
        queue.enter(second(0), ticket("b", upload, LARGE)).unwrap();
    }
    assert!(place(&queue, &key("a", 99)) > place(&queue, &key("b", 9)));
    for upload in 1..99 {
        queue.ended(second(0), &key("a", upload));
    }
    queue.changes(second(1));
    assert!(place(&queue, &key("a", 99)).unwrap().0 <= 3, "{:?}", place(&queue, &key("a", 99)));
}

#[test]
fn a_line_is_what_a_sorted_list_is() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let (mut line, mut model) = (Line::default(), Vec::<(Spot, u64)>::new());
        for number in 0..3000 {
            let spot = (Tag::from(random.below(500)), number);
            match random.below(3) {
                0 if !model.is_empty() => {
                    let gone = model.remove(random.below(model.len() as u64) as usize).0;
                    assert!(line.remove(gone) && !line.remove(gone), "seed {seed}");
                }
                _ => {
                    let index = model.partition_point(|(other, _)| *other < spot);
                    let bytes = random.below(LARGE);
                    model.insert(index, (spot, bytes));
                    line.insert(spot, bytes);
                }
            }
            if number % 100 == 0 {
                assert_eq!(line.iter().collect::<Vec<_>>(), model, "seed {seed}");
                let before: Vec<_> = model.iter().take_while(|(other, _)| *other < spot).collect();
                let found = line.before(spot);
                let bytes = before.iter().map(|(_, bytes)| u128::from(*bytes)).sum();
                assert_eq!((found.count, found.bytes), (before.len(), bytes), "seed {seed}");
                assert_eq!(line.len(), model.len());
            }
        }
    }
}

/// Random clients do everything that clients may. Whatever they do, no more is carried than may be, whoever is
/// admitted was the first of its kind, and in the end everybody who stays has a turn within the bound, though
/// somebody new enters for each that ends.
#[test]
fn nobody_starves_and_nobody_jumps_the_queue() {
    for seed in 0..40 {
        Schedule::new(seed).run();
    }
}

struct Schedule {
    seed: u64,
    random: Random,
    queue: Admission,
    now: Duration,
    next_upload: u64,
    /// Those that were admitted, and have begun if so.
    running: BTreeMap<UploadKey, bool>,
    known: Vec<Ticket>,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let limits = Budgets {
            waiting: 30,
            waiting_per_client: 12,
            ..budgets(1 + random.below(4) as usize, random.below(3) as usize)
        };
        let queue = Admission::new(limits);
        let now = second(0);
        let (next_upload, running, known) = (0, BTreeMap::new(), Vec::new());
        Self { seed, random, queue, now, next_upload, running, known }
    }

    fn run(mut self) {
        for _ in 0..1500 {
            self.step();
            self.settle();
        }
        self.drain();
    }

    fn new_ticket(&mut self, client: String) -> Ticket {
        self.next_upload += 1;
        let bytes = match self.random.below(3) {
            0 => self.random.below(SMALL),
            1 => self.random.below(LARGE),
            _ => self.random.below(4 * LARGE),
        };
        Ticket { disk: self.random.below(2) as usize, ..ticket(&client, self.next_upload, bytes) }
    }

    fn some_key(&mut self) -> Option<UploadKey> {
        let count = self.known.len() as u64;
        (count > 0).then(|| self.known[self.random.below(count) as usize].key.clone())
    }

    fn step(&mut self) {
        let before = self.fronts();
        match self.random.below(12) {
            0..4 => {
                // Some have many uploads, most have few.
                let client = format!("c{}", self.random.below(10) * self.random.below(3));
                let ticket = self.new_ticket(client);
                if self.queue.enter(self.now, ticket.clone()).is_ok() {
                    self.known.push(ticket);
                }
            }
            4 => self.now += second(self.random.below(40)),
            5 => self.queue.handle_timeout(self.now),
            6 => {
                let disk = self.random.below(2) as usize;
                let is_full = self.random.below(3) == 0;
                self.queue.disk_is_full(self.now, disk, is_full);
            }
            7..9 => {
                let Some((key, _)) = self.running.iter().next() else { return };
                let key = key.clone();
                self.running.remove(&key);
                self.known.retain(|ticket| ticket.key != key);
                self.queue.ended(self.now, &key);
                self.was_first(&before);
            }
            other => {
                let Some(key) = self.some_key() else { return };
                match other {
                    9 => self.queue.left(self.now, &key),
                    10 => {
                        let up = self.random.below(2) == 0;
                        self.queue.link(self.now, &key, up);
                    }
                    _ => {
                        self.queue.came_back(self.now, &key);
                    }
                }
            }
        }
    }

    /// The first of each kind, by what it is told.
    fn fronts(&self) -> Vec<UploadKey> {
        let is_first =
            |ticket: &&Ticket| place(&self.queue, &ticket.key).is_some_and(|place| place.0 == 1);
        self.known.iter().filter(is_first).map(|ticket| ticket.key.clone()).collect()
    }

    /// What is to be admitted first is what was told to be the first.
    fn was_first(&self, before: &[UploadKey]) {
        if let Some(Output::Admitted(key)) = self.queue.outputs.front() {
            assert!(before.contains(key), "seed {}: {key:?} was not the first", self.seed);
        }
    }

    fn settle(&mut self) {
        while let Some(output) = self.queue.poll_output() {
            match output {
                Output::Admitted(key) => {
                    let begins = self.random.below(4) > 0;
                    if begins {
                        assert!(self.queue.began(&key), "seed {}", self.seed);
                    }
                    self.running.insert(key, begins);
                }
                Output::Dropped(key) => {
                    self.running.remove(&key);
                    self.known.retain(|ticket| ticket.key != key);
                }
            }
        }
        self.running.retain(|key, _| self.queue.under_way.contains(key));
        self.holds();
    }

    fn holds(&self) {
        let (queue, seed) = (&self.queue, self.seed);
        let (large, small) = queue.taken;
        let (turns, small_turns) = (queue.budgets.active, queue.budgets.small_active);
        assert!(large <= 2 * turns && large + small <= 2 * (turns + small_turns), "seed {seed}");
        assert_eq!(large + small, queue.under_way.len(), "seed {seed}");
        // Who was under way, or gave a turn up, is not refused when it has to wait again.
        let returned = 2 * (turns + small_turns) + queue.budgets.waiting;
        assert!(queue.waiting <= queue.budgets.waiting + returned, "seed {seed}");
        let counted: usize = queue.clients.values().map(|client| client.waiting).sum();
        assert_eq!(queue.waiting, counted, "seed {seed}");
        assert_eq!(queue.by_number.len(), queue.waiting + queue.dormant.len(), "seed {seed}");
        let in_lines: usize = queue.lines.values().map(Line::len).sum();
        let present = |held: &&Held| held.state == State::Waits && held.present > 0;
        assert_eq!(in_lines, queue.held.values().filter(present).count(), "seed {seed}");
        let has_deadline = |held: &&Held| held.deadline.is_some();
        assert_eq!(queue.deadlines.len(), queue.held.values().filter(has_deadline).count());
    }

    /// From here on everybody stays, and for each turn that ends a client comes that was never here.
    fn drain(mut self) {
        for disk in 0..2 {
            self.queue.disk_is_full(self.now, disk, false);
        }
        for ticket in self.known.clone() {
            self.queue.came_back(self.now, &ticket.key);
        }
        self.settle();
        let mut left: BTreeMap<UploadKey, (Kind, usize)> = BTreeMap::new();
        for (key, held) in self.queue.held.iter().filter(|(_, held)| held.state == State::Waits) {
            // What the client was carried, and what its own uploads before this one cost, is what it waits for.
            let account = self.queue.clients[&key.client].account_of(held.kind);
            let own = account.waiting.range(..held.spot);
            let own: Tag = own.map(|spot| self.queue.cost_at(*spot)).sum();
            let round = self.queue.round(held.kind).now();
            let due = held.spot.0.max(account.carried).max(round) + own;
            let rounds = (due - round) / Tag::from(QUANTUM);
            // Each that waits has at most one turn in a round, and one more may be owed to it from before. Newcomers
            // fill the queue first, in the place of what was under way.
            let most = self.queue.waiting.max(self.queue.budgets.waiting);
            let under_way = self.queue.under_way.len();
            left.insert(key.clone(), (held.kind, (rounds as usize + 2) * most + under_way));
        }
        let mut turns = BTreeMap::from([(Kind::Large, 0), (Kind::Small, 0)]);
        while !left.is_empty() {
            assert!(!self.queue.under_way.is_empty(), "seed {}: {left:?}", self.seed);
            for key in self.queue.under_way.iter().cloned().collect::<Vec<_>>() {
                left.remove(&key);
                *turns.entry(self.queue.held[&key].kind).or_default() += 1;
                self.queue.ended(self.now, &key);
                let newcomer = format!("new{}", self.next_upload);
                let ticket = self.new_ticket(newcomer);
                let _ = self.queue.enter(self.now, ticket);
            }
            while self.queue.poll_output().is_some() {}
            self.holds();
            let late = left.iter().find(|(_, (kind, bound))| turns[kind] > *bound);
            assert!(late.is_none(), "seed {}: after {turns:?} turns {late:?}", self.seed);
        }
    }
}

/// Numbers from a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}
