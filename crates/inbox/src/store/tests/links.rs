use super::super::steps::Failure;
use super::*;

fn inode(bench: &Bench, row: &DatasetRow, path: &str) -> (u64, u64) {
    let meta = fs::metadata(bench.path().join(&row.path).join("files").join(path)).unwrap();
    (meta.ino(), meta.nlink())
}

fn link_to(other: &DatasetRow) -> Publication {
    Publication { link_to: Some(other.id), ..publication() }
}

#[test]
fn what_another_dataset_has_lies_on_the_disk_once() {
    let bench = Bench::new();
    let root = bench.open();
    let first = bench.dataset(&root, 1);
    let second = root.take_in(&bench.offer(2), &metadata(2)).unwrap();
    let mut changed = files();
    changed[1].1 = b"another".to_vec();
    // Two of one content are both links to the one.
    changed.push((b"copy".to_vec(), changed[0].1.clone()));
    fill(&second, &changed);
    let published = bench.publish_as(&second, &link_to(&first)).unwrap();
    assert_eq!(published.linked, files().len() as u64);
    bench.check_whole(&root, second.id(), &changed);
    bench.check_whole(&root, first.id, &files());
    let (inode_first, links) = inode(&bench, &first, "reads/a.fastq");
    assert_eq!((inode_first, links), inode(&bench, &published.row, "copy"));
    assert_eq!(links, 3);
    assert_ne!(inode(&bench, &first, "reads/a-b").0, inode(&bench, &published.row, "reads/a-b").0);
}

#[test]
fn what_is_damaged_or_gone_is_not_linked_to() {
    let bench = Bench::new();
    let root = bench.open();
    let first = bench.dataset(&root, 1);
    let damaged = bench.path().join(&first.path).join("files/reads/a.fastq");
    fs::write(&damaged, b"damaged").unwrap();
    let second = root.take_in(&bench.offer(2), &metadata(2)).unwrap();
    fill(&second, &files());
    let published = bench.publish_as(&second, &link_to(&first)).unwrap();
    assert_eq!(published.linked, files().len() as u64 - 1);
    bench.check_whole(&root, second.id(), &files());

    fs::remove_dir_all(bench.path().join(&first.path)).unwrap();
    let third = root.take_in(&bench.offer(3), &metadata(3)).unwrap();
    fill(&third, &files());
    assert_eq!(bench.publish_as(&third, &link_to(&first)).unwrap().linked, 0);
    bench.check_whole(&root, third.id(), &files());
}

#[test]
fn a_link_that_is_cut_short_leaves_nothing_half() {
    for number in 1.. {
        let bench = Bench::new();
        let root = bench.open();
        let first = bench.dataset(&root, 1);
        let second = root.take_in(&bench.offer(2), &metadata(2)).unwrap();
        fill(&second, &files());
        bench.steps.plan(Some(Failure::At(number)));
        let result = bench.publish_as(&second, &link_to(&first));
        let passed = bench.steps.passed();
        bench.steps.plan(None);
        if passed.len() < number {
            result.unwrap();
            break;
        }
        if !matches!(passed[number - 1], "link" | "place link") {
            continue;
        }
        result.unwrap_err();
        bench.publish_as(&second, &link_to(&first)).unwrap();
        bench.check_whole(&root, second.id(), &files());
        bench.check_whole(&root, first.id, &files());
    }
}
