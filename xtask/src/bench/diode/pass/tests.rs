use serde_json::json;

use super::*;

const LOAD: Load = Load::Many { folders: 2, each: 5, bytes: 4096 };

fn sent(is_complete: bool) -> Sent {
    let cost = Measurement { wall: 0.5, cpu: (0.1, 0.2), memory: (1, 2) };
    Sent { cost, is_complete, event: None, events: Vec::new() }
}

#[test]
fn what_a_receiver_says_becomes_figures() {
    let status = json!({"published": 10, "lost_link": 3, "dropped_kernel": 4, "dropped_program": 5,
        "dropped_disk_too_slow": 6, "blocks": 9, "restored": 2, "sender": {"frames": 100}});
    let good = pass(&status, &sent(true), LOAD, (0, 2));
    assert_eq!((good.lost_files, good.frames, good.dropped, good.lost_link), (0, 100, 2, 3));
    assert_eq!((good.lost_kernel, good.lost_program, good.lost_disk), (4, 5, 6));
    assert_eq!((good.blocks, good.lost_by_us()), ((9, 2), 15));
    assert_eq!(good.goodput(LOAD), Some(81920.0));
    let bad = pass(&json!({"published": 7}), &sent(false), LOAD, (1, 0));
    assert_eq!((bad.lost_files, bad.back, bad.goodput(LOAD)), (3, 1, None));
    // Everything was published, but the list's end is not there.
    assert_eq!(pass(&json!({"published": 10}), &sent(false), LOAD, (0, 0)).lost_files, 1);
}

#[test]
fn what_the_link_loses_on_purpose_is_no_fault() {
    let status = json!({"lost_link": 3});
    let pass = pass(&status, &sent(true), LOAD, (0, 2));
    assert_eq!(pass.fault(5), None);
    assert_eq!(pass.fault(0).unwrap(), "3 packets lost between the devices");
    let pass = Pass { lost_kernel: 2, ..pass };
    assert_eq!(pass.fault(5).unwrap(), "2 packets dropped by the kernel");
}
