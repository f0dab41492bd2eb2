//! The binary `tandem`; everything is in the library.

use std::process::ExitCode;
use std::{env, io};

fn main() -> ExitCode {
    let environment = tandem_cli::Environment::of_process();
    let (mut stdout, mut stderr) = (io::stdout().lock(), io::stderr().lock());
    tandem_cli::run(env::args_os(), &environment, &mut stdout, &mut stderr).into()
}
