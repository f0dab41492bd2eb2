//! The command line against a daemon within the test: real arguments in, real bytes out, real
//! gRPC between. What the daemon knows is canned; what the program does with it is not.

mod daemon;
mod fleet;
mod formats;
mod help;
mod invocation;
mod refusals;
mod run;
mod site;
mod tls;
mod watch;
