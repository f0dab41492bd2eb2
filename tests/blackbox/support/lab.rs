//! `deploy/lab`: network namespaces with real addresses behind a router.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{Output, run};
use super::repository;

/// A router with sites around it; ended when dropped, with every process in it.
#[derive(Debug)]
pub(crate) struct Lab {
    dir: PathBuf,
}

impl Lab {
    /// Makes the router. Panics, saying why, where namespaces are not possible: that a machine
    /// cannot run these tests must not look as if they passed.
    #[track_caller]
    pub(crate) fn up(dir: &Path) -> Self {
        let lab = Self {
            dir: dir.to_owned(),
        };
        lab.command(&["up"], &[]).expect(0);
        lab
    }

    /// Makes a site, or gives it more addresses (`ADDR/PREFIX`).
    #[track_caller]
    pub(crate) fn site(&self, name: &str, addresses: &[String]) {
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        self.command(&["site"], &[&[name], addresses.as_slice()].concat())
            .expect(0);
    }

    /// A command that becomes `program` inside a site.
    pub(crate) fn exec(&self, name: &str, program: &str) -> Command {
        let mut command = Command::new(script());
        command.arg("exec").arg(&self.dir).args([name, program]);
        command
    }

    /// Drops everything from and for a site, silently, as a broken path does.
    #[track_caller]
    pub(crate) fn cut(&self, name: &str) {
        self.command(&["cut"], &[name]).expect(0);
    }

    /// Ends a cut.
    #[track_caller]
    pub(crate) fn restore(&self, name: &str) {
        self.command(&["restore"], &[name]).expect(0);
    }

    fn command(&self, verb: &[&str], arguments: &[&str]) -> Output {
        let mut command = Command::new(script());
        command.args(verb).arg(&self.dir).args(arguments);
        run(command)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let output = self.command(&["down"], &[]);
        if output.code != Some(0) {
            eprintln!("the lab did not go down: {}", output.stderr);
        }
    }
}

fn script() -> PathBuf {
    repository("deploy/lab")
}
