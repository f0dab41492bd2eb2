//! Real TLS over loopback: both ends as the services use them.

mod acceptor;
mod certificates;
mod grpc;
mod handshake;
mod peers;
mod support;
