//! Kills a process that commits in a loop, again and again, and looks for what it acknowledged.
//!
//! The test starts itself as the process to kill, so it has no harness but its own `main`.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, thread};

use store::{Action, Expected, Key, OpenError, Revision, Store, Write};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Tells the child where its store is.
const CHILD: &str = "STORE_CRASH_CHILD";
/// Kills, each after a different number of acknowledgements.
const ROUNDS: usize = 12;
/// Threads of the child that commit at the same time.
const COMMITTERS: usize = 4;
/// Records per committer, which are overwritten in turn.
const RECORDS: u64 = 16;
/// How long the child may take for one acknowledgement on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let outcome = match env::var_os(CHILD) {
        Some(dir) => commit_until_killed(Path::new(&dir)),
        None => nothing_acknowledged_is_lost(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// One acknowledged write, as the child prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Acknowledged {
    revision: u64,
    key: String,
    value: String,
}

fn nothing_acknowledged_is_lost() -> Outcome {
    let temporary = tempfile::tempdir()?;
    let dir = temporary.path().join("state");
    Store::create(&dir)?.close()?;
    let mut latest: BTreeMap<String, Acknowledged> = BTreeMap::new();
    for round in 0..ROUNDS {
        let acknowledged = run_and_kill(&dir, 1 + round * 7)?;
        let last = acknowledged
            .iter()
            .map(|line| line.revision)
            .max()
            .unwrap_or(0);
        for line in acknowledged {
            let newer = latest
                .get(&line.key)
                .is_none_or(|known| known.revision < line.revision);
            if newer {
                latest.insert(line.key.clone(), line);
            }
        }
        let store = Store::open(&dir)?;
        if store.revision() < Revision::new(last) {
            let found = store.revision();
            return Err(format!("revision {last} was acknowledged, found {found}").into());
        }
        for line in latest.values() {
            expect(&store, line)?;
        }
        store.close()?;
    }
    println!(
        "{ROUNDS} kills, {} records checked after each",
        latest.len()
    );
    Ok(())
}

/// The record has the acknowledged value, or a later one that nobody heard of before the kill.
fn expect(store: &Store, line: &Acknowledged) -> Outcome {
    let Some(record) = store.get(&Key::new(&line.key)?)? else {
        return Err(format!("{line:?} was acknowledged and is gone").into());
    };
    let value = String::from_utf8_lossy(&record.value);
    let same = record.revision.get() == line.revision && value == line.value;
    if same || record.revision.get() > line.revision {
        Ok(())
    } else {
        Err(format!("{line:?} was acknowledged, but {record:?} was found").into())
    }
}

/// Starts the child, kills it after `count` acknowledgements, and returns all that it printed.
fn run_and_kill(dir: &Path, count: usize) -> Outcome<Vec<Acknowledged>> {
    let mut child = Command::new(env::current_exe()?)
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("the child has no output")?;
    let (lines, printed) = mpsc::channel();
    let reader = thread::spawn(move || -> Outcome {
        for line in BufReader::new(output).lines() {
            lines.send(line?)?;
        }
        Ok(())
    });
    let mut acknowledged = Vec::new();
    while acknowledged.len() < count {
        acknowledged.extend(parse(&printed.recv_timeout(PATIENCE)?));
    }
    if count == 1 {
        // While it lives, nobody else may have its directory, and it is named.
        match Store::open(dir) {
            Err(OpenError::Locked { pid, .. }) if pid == Some(child.id()) => {}
            other => return Err(format!("the store of the child was opened: {other:?}").into()),
        }
    }
    child.kill()?;
    child.wait()?;
    // What it had printed before it died was acknowledged, too.
    acknowledged.extend(printed.iter().filter_map(|line| parse(&line)));
    reader.join().map_err(|_| "the reader panicked")??;
    Ok(acknowledged)
}

/// A line that was printed as a whole; the kill may have cut the last one.
fn parse(line: &str) -> Option<Acknowledged> {
    let mut words = line.strip_suffix(" .")?.split(' ');
    let (revision, key, value) = (words.next()?, words.next()?, words.next()?);
    Some(Acknowledged {
        revision: revision.parse().ok()?,
        key: key.to_owned(),
        value: value.to_owned(),
    })
}

fn commit_until_killed(dir: &Path) -> Outcome {
    let store = Store::open(dir)?;
    let run = store.revision().get();
    let store = &store;
    thread::scope(|scope| {
        let committers: Vec<_> = (0..COMMITTERS)
            .map(|committer| scope.spawn(move || commit_forever(store, committer, run)))
            .collect();
        committers
            .into_iter()
            .try_for_each(|committer| committer.join().map_err(|_| "a committer panicked")?)
    })
}

fn commit_forever(store: &Store, committer: usize, run: u64) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut turn = 0;
    loop {
        let key = format!("committer/{committer}/{:02}", turn % RECORDS);
        // Of very different lengths, so that pages split and merge.
        let value = format!(
            "{run}-{turn}-{}",
            "x".repeat(usize::try_from(turn * 977 % 9000)?)
        );
        let write = Write {
            key: Key::new(&key)?,
            expected: Expected::Any,
            action: Action::Put(value.clone().into_bytes()),
        };
        let revision = runtime.block_on(store.commit(vec![write]))?;
        let mut output = std::io::stdout().lock();
        writeln!(output, "{revision} {key} {value} .")?;
        output.flush()?;
        turn += 1;
    }
}
