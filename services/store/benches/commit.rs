//! Durable commits per second, one after another and 64 at a time, beside the least that a disk
//! can do for the same bytes: appending them to a plain file and waiting for fdatasync.

use std::fs::File;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use store::{Action, Expected, Key, Store, Write};
use tokio::runtime::Runtime;

/// About the size of a record of one subcloud.
const VALUE: [u8; 2048] = [0x5A; 2048];
/// Records that are overwritten in turn.
const RECORDS: u64 = 1024;
const CONCURRENT: u64 = 64;

fn write(number: u64) -> Write {
    let key = format!("subcloud/{:08}", number % RECORDS);
    Write {
        key: Key::new(&key).expect("a valid key"),
        expected: Expected::Any,
        action: Action::Put(VALUE.to_vec()),
    }
}

fn commits(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::create(&dir.path().join("state")).expect("a store");
    let number = AtomicU64::new(0);
    let next = || write(number.fetch_add(1, Ordering::Relaxed));
    let mut file = File::create(dir.path().join("plain")).expect("a file");

    let mut group = criterion.benchmark_group("durable");
    group.throughput(Throughput::Elements(1));
    group.bench_function("reference: append and fdatasync", |bencher| {
        bencher.iter(|| {
            file.write_all(&VALUE).expect("an append");
            file.sync_data().expect("a sync");
        });
    });
    group.bench_function("commit, one after another", |bencher| {
        bencher.iter(|| {
            runtime
                .block_on(store.commit(vec![next()]))
                .expect("a commit")
        });
    });
    group.throughput(Throughput::Elements(CONCURRENT));
    group.bench_function("commit, 64 at a time", |bencher| {
        bencher.iter(|| {
            let enqueue = |_| store.enqueue(vec![next()]).expect("room in the queue");
            let tickets: Vec<_> = (0..CONCURRENT).map(enqueue).collect();
            runtime.block_on(async {
                for ticket in tickets {
                    ticket.durable().await.expect("a commit");
                }
            });
        });
    });
    group.finish();
}

criterion_group!(benches, commits);
criterion_main!(benches);
